import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { isFailure, PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { proves } from '../jobs/proof.js';
import type { VirtualObject } from '../objects/object.js';
import { proofsOf } from './fingerprint.js';
import { candidatesOn } from './inventory.js';
import { learnKeyRecord, referTo } from './key-record.js';
import { remember } from './replica.js';

/**
 * Takes the group's fingerprint of an object: from its key record, or else from the first member, in the configuration's order, that is
 * in service and has it. So every process takes it from the same member, and of two keys that share a name
 * the one on the later member is the one that is not used.
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
    // Absent on those that could be asked: the others may have it, but so may they have the key.
    yield* learnKeyRecord(group, object, new PartOfWork(referencing));
    if (referTo(object)) return;
    const inService = group.members.filter((member) => member.isActive);
    for (const member of inService.length > 0 ? inService : group.members) {
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
      // Not the next one's: while this member is in service, it may hold the group's key.
      if (taken === 'failed' && member.isActive) {
        member.suspect(connection, 'a key could not be proven there');
        return;
      }
    }
  } finally {
    group.referencing.delete(object);
    referencing.complete();
  }
}

/** Jobs with handles of one connection's login, for somebody who waits for several. */
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
  // Of twins that came after the object was met, none may be guessed to be it.
  if (candidate === undefined || candidates.list.length > 1) return 'absent';
  const proofs = yield* proofsOf(group, connection, candidate, work);
  if (isFailure(proofs)) return 'failed';
  for (const [kind, proof] of proofs) object.reference.set(kind, proof);
  object.referenced = true;
  const proven = [...proofs.keys()].some(proves);
  if (work.epoch === connection.epoch) {
    remember(group, member, connection, object, { kind: 'usable', handle: candidate.handle, proven });
  }
  return 'taken';
}
