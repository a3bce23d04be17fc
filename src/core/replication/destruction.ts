import { CKR } from '../../spec/codes.js';
import { optional, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { findObjects } from '../call/find.js';
import { isReachable } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { knownAliasRecord } from '../group/record-learning.js';
import { isSecretRequest } from '../jobs/creation-request.js';
import { JobBuilder } from '../jobs/job-builder.js';
import type { MemberJob } from '../jobs/member-job.js';
import { templateOf } from '../objects/identity.js';
import { hex } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import { FIRST_FORMAT } from '../records/record.js';
import { aliasTemplate, keyRecordTemplate } from '../records/record-template.js';
import { tombstoneLabel } from '../records/tombstone.js';
import { relearnKeyRecord } from '../replicas/key-record.js';
import { refreshForChange } from '../wrapping/group-record-reading.js';
import { abandonedError, carryOut, carryOutOnceBegun } from './change-execution.js';
import { checkWritable } from './creation.js';
import { runMarked } from './position-mark.js';
import { copyReplicaTo, describeObject } from './replica-copy.js';
import { ReplicatedChange } from './replicated-change.js';

/** Maximum number of records of one kind that a member holds for an object: while one is replaced, it holds two. */
const MOST_RECORDS = 2;

/**
 * Destroys an object on one member after the other. Members that are away destroy it when they recover: a destroyed key
 * stays destroyed (Rule 16).
 */
export function* destroyObject(group: Group, object: VirtualObject, deadline: number): Task<void> {
  const name = 'C_DestroyObject';
  checkWritable(group, name);
  group.counters.calls += 1;
  yield* carryOutOnceBegun(
    () => new ReplicatedChange(group, name, deadline),
    (change) => (object.session === undefined ? destroy(change, object) : destroyInSessions(change, object)),
  );
}

function* destroy(change: ReplicatedChange, object: VirtualObject): Task<void> {
  const { group } = change;
  yield* refreshForChange(group, change.deadline);
  // An object that was met before the login gets its lasting handle by a find.
  if (object.isProvisional) yield* findObjects(group, templateOf(object.description), change.deadline);
  // Reads what the intent says after the wait for members: another process may rename the object meanwhile.
  const participants = yield* change.participants();
  yield* relearnKeyRecord(group, object);
  yield* describeObject(group, object, change.deadline);
  const going = yield* change.writeIntent(participants, 'destroy', [object]);
  const done: Member[] = [];
  const doubtful: Member[] = [];
  const lost: Member[] = [];
  for (const member of going) {
    if (!isReachable(member)) {
      lost.push(member);
      continue;
    }
    const isLate = done.length === 0 && (change.givenUp || group.port.now() >= change.deadline);
    if (isLate) {
      yield* change.abandon([], doubtful);
      const late = 'the deadline passed before any member had destroyed the object';
      throw abandonedError(change, change.failure(CKR.functionFailed, late));
    }
    // From here on the caller must hear the outcome: the object may not come back once a member has destroyed it.
    change.isIrrevocable = done.length === 0;
    const end = yield* runMarked(change, member, destroyingOn(group, object), change.cleanupBy);
    if (end.kind === 'done') {
      done.push(member);
      change.markCommitted(undefined);
    } else if (end.kind === 'refused' && done.length === 0) {
      change.isIrrevocable = false;
      yield* change.abandon([], doubtful);
      throw abandonedError(change, change.refusalError(end));
    } else if (end.kind === 'gone') {
      (end.begun ? doubtful : lost).push(member);
    } else if (end.kind === 'refused' && !change.givenUp) {
      yield* restoreAll(change, done, doubtful, object);
      throw abandonedError(change, change.refusalError(end));
    }
  }
  if (done.length === 0) {
    yield* change.abandon([], doubtful);
    change.hasNotBegun = lost.length === going.length;
    const explanation = `no member destroyed the object: ${group.describeMembers()}`;
    throw abandonedError(change, change.failure(CKR.deviceRemoved, explanation));
  }
  group.objects.remove(object);
  group.objects.dropAlias(object.handle);
  if (isSecretRequest(object.description)) group.onDestroyed();
  yield* change.commit(done, undefined);
}

/** Copies the object back to the members that destroyed it, if a later member refuses to. */
function* restoreAll(
  change: ReplicatedChange,
  members: readonly Member[],
  doubtful: readonly Member[],
  object: VirtualObject,
): Task<void> {
  change.committed = undefined;
  const left = [...doubtful];
  for (const member of members) {
    try {
      if (!(yield* copyReplicaTo(change.group, object, member, change.cleanupBy, true))) left.push(member);
    } catch {
      left.push(member);
    }
  }
  yield* change.abandon(
    members.filter((member) => !left.includes(member)),
    left,
  );
}

/** Builds the job that destroys an object and its records on one member. */
function destroyingOn(group: Group, object: VirtualObject): MemberJob {
  return {
    function: 'C_DestroyObject',
    objects: [object],
    job: ([handle = new Uint8Array(8)]) => {
      const builder = new JobBuilder();
      builder.add(step('C_DestroyObject', handle));
      addTombstone(group, object, builder);
      return { steps: builder.steps };
    },
  };
}

/**
 * Adds the steps that leave a tombstone of a destroyed key, and remove the object's other records. Without a tombstone,
 * a member that comes back in an earlier state would spread the key again. The key record becomes the tombstone. If it
 * has the sealed form, which must go with the key, or if it is not known, a new record without that form is written.
 */
export function addTombstone(group: Group, object: VirtualObject, builder: JobBuilder): void {
  const { record } = object;
  const isKept = group.ledger.format > FIRST_FORMAT && isSecretRequest(object.description);
  const label = tombstoneLabel(object.handle, group.nextTimestamp());
  const isHarmless = record !== undefined && record !== null && record.sealed === undefined;
  if (isKept && isHarmless) {
    const at = builder.add(optional(step('X_Find', keyRecordTemplate(object.handle), 1, [])));
    builder.add(optional(step('C_SetAttributeValue', { step: at }, [label])));
  } else if (isKept && record !== undefined && record !== null) {
    // A full token still destroys the key; the tombstone then stands on the others.
    builder.addRecordIfRoom({ ...record, sealed: undefined, template: [], answers: [] }, label);
  }
  // Removes what is left: the record of a token that does not let labels change, or a record that was being replaced.
  addRecordRemoval(group, object, builder, isKept && isHarmless ? 1 : MOST_RECORDS);
}

/** Adds the steps that remove the records of an object from a member. */
export function addRecordRemoval(
  group: Group,
  object: VirtualObject,
  builder: JobBuilder,
  rounds: number = MOST_RECORDS,
): void {
  const templates = [];
  if (isSecretRequest(object.description)) templates.push(keyRecordTemplate(object.handle));
  if (knownAliasRecord(group, object.handle) !== undefined) templates.push(aliasTemplate(object.handle));
  for (const template of templates) {
    for (let i = 0; i < rounds; i += 1) {
      const at = builder.add(optional(step('X_Find', template, 1, [])));
      builder.add(optional(step('C_DestroyObject', { step: at })));
    }
  }
}

/** Destroys a session object, also without a login. */
export function* destroySessionObject(group: Group, object: VirtualObject): Task<void> {
  const change = new ReplicatedChange(group, 'C_DestroyObject', group.port.now() + group.policy.deadline);
  yield* carryOut(change, destroyInSessions(change, object));
}

/** Destroys a session object on every member that has it; the application loses its handle at once. */
function* destroyInSessions(change: ReplicatedChange, object: VirtualObject): Task<void> {
  const { group } = change;
  group.objects.remove(object);
  const replicas = group.members.flatMap((member) => {
    const { connection } = member;
    const replica = connection?.replicas.get(object);
    if (connection === undefined || replica?.kind !== 'usable') return [];
    connection.sessionObjects.delete(hex(replica.handle));
    connection.replicas.delete(object);
    return [{ member, login: { connection, epoch: connection.epoch }, handle: replica.handle }];
  });
  for (const { member, login, handle } of replicas) {
    const steps = [step('C_DestroyObject', handle)];
    yield* change.run(member, { function: 'C_DestroyObject', objects: [], login, job: () => ({ steps }) });
  }
}
