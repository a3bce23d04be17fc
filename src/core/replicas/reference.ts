import { NO_MAXIMUM } from '../../spec/calls.js';
import { step } from '../../spec/job.js';
import { FOREVER, type Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { isFailure, PendingWork, replyOrFailure } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { keyAliasesIn } from '../group/record-learning.js';
import { isSecretRequest } from '../jobs/creation-request.js';
import { proves } from '../jobs/proof.js';
import type { ProofKind } from '../objects/key-note.js';
import { areOfOneKey, type VirtualObject } from '../objects/object.js';
import { foundIn } from '../records/ledger.js';
import { FIRST_FORMAT } from '../records/record.js';
import { keyRecordSearch } from '../records/record-template.js';
import { keyRecordTypes } from '../records/tombstone.js';
import { proofsOf } from './fingerprint.js';
import { candidatesOn } from './inventory.js';
import { learnKeyRecord, referTo } from './key-record.js';
import { remember } from './replica.js';

/**
 * Takes the reference of an object: from its key record, or else from the first active member, in the configuration's
 * order, that has it. So all processes take the same one. If two members have different keys of one identity, the key
 * on the later member is not used.
 */
export function* establishReference(group: Group, object: VirtualObject, work: PendingWork): Task<void> {
  let referencing = group.referencing.get(object);
  if (referencing === undefined) {
    referencing = new PendingWork();
    group.referencing.set(object, referencing);
    group.port.start(takeReference(group, object, referencing));
  }
  yield* work.follow(referencing);
}

function* takeReference(group: Group, object: VirtualObject, referencing: PendingWork): Task<void> {
  try {
    // If no member that answers has the record, the reference comes from a member that has the key.
    if (object.record === null) object.record = undefined;
    yield* learnKeyRecord(group, object, new PartOfWork(referencing));
    if (referTo(object)) return;
    if (object.isRecorded) {
      // The record alone tells which key has the handle; without proofs in it, nothing can be proven.
      object.referenced = object.record !== undefined && object.record !== null;
      return;
    }
    const active = group.members.filter((member) => member.isActive);
    for (const member of active.length > 0 ? active : group.members) {
      const { connection } = member;
      if (connection === undefined || connection.end !== undefined) continue;
      const taking = group.port.start(takeReferenceFrom(group, member, connection, object, referencing));
      const { name } = member.state;
      while (!taking.completed && member.state.name === name) {
        yield* race([taking, group.changed]);
      }
      if (!taking.completed) taking.cancel(undefined);
      const taken = taking.ended?.ok === true ? taking.ended.value : 'failed';
      if (taken === 'taken') return;
      // While this member is active it may hold the group's key, so the next member's key is not taken.
      if (taken === 'failed' && member.isActive) {
        member.suspect(connection, 'a key on it could not be proven');
        return;
      }
    }
  } finally {
    group.referencing.delete(object);
    referencing.complete();
  }
}

/** Part of pending work, with handles of one connection's login; if the part is late, the whole is. */
class PartOfWork extends PendingWork {
  constructor(
    readonly whole: PendingWork,
    connection?: Connection,
  ) {
    super();
    this.epoch = connection?.epoch;
  }

  override markLate(): void {
    super.markLate();
    this.whole.markLate();
  }
}

/** Returns true if a key record says that the key on a member has another handle: it is not the object's then. */
function* isOfAnother(
  { ledger, objects }: Group,
  connection: Connection,
  { handle, identity, description }: VirtualObject,
  proofs: ReadonlyMap<ProofKind, Uint8Array>,
  work: PendingWork,
): Task<boolean> {
  if (ledger.format <= FIRST_FORMAT || !isSecretRequest(description)) return false;
  const template = keyRecordSearch(ledger.record, objects.digestOf(identity));
  const steps = [step('X_Find', template, NO_MAXIMUM, keyRecordTypes)];
  const reply = replyOrFailure(yield* connection.run({ steps }, 'key record', FOREVER, work));
  if (isFailure(reply)) return true;
  const aliases = keyAliasesIn(foundIn(reply, 0));
  return aliases.some((alias) => alias.handle !== handle && areOfOneKey(alias.proofs, proofs));
}

function* takeReferenceFrom(
  group: Group,
  member: Member,
  connection: Connection,
  object: VirtualObject,
  referencing: PendingWork,
): Task<'taken' | 'absent' | 'failed'> {
  const work = new PartOfWork(referencing, connection);
  const candidates = yield* candidatesOn(connection, object, work);
  if (candidates.kind !== 'candidates') return 'failed';
  const [candidate] = candidates.list;
  // If there are twins, none of them is known to be the object.
  if (candidate === undefined || candidates.list.length > 1) return 'absent';
  const proofs = yield* proofsOf(group, connection, candidate, work);
  if (isFailure(proofs)) return 'failed';
  if (yield* isOfAnother(group, connection, object, proofs, work)) return 'absent';
  for (const [kind, proof] of proofs) object.reference.set(kind, proof);
  object.referenced = true;
  const proven = [...proofs.keys()].some(proves);
  if (work.epoch === connection.epoch) {
    remember(group, member, connection, object, { kind: 'usable', handle: candidate.handle, proven });
  }
  return 'taken';
}
