import { resultOf, step } from '../../spec/job.js';
import { FOREVER, type Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { type Failure, failureOf, type PendingWork } from '../group/job-outcome.js';
import type { KeyRecord } from '../objects/key-note.js';
import { proofsIn } from '../objects/note.js';
import { areOfOneKey, type VirtualObject } from '../objects/object.js';
import { keyRecordTemplate, readRecord, recordTypes } from '../records/record.js';

/** More records of one key are never there, but for the moment when one takes another's place. */
const MOST_RECORDS = 16;

/** The record of a key on one member; the newest, where one is just being replaced. */
export function* readKeyRecord(
  connection: Connection,
  handle: number,
  work?: PendingWork,
): Task<{ readonly kind: 'record'; readonly record: KeyRecord | undefined } | Failure> {
  const steps = [step('X_Find', keyRecordTemplate(handle), MOST_RECORDS, recordTypes)];
  const outcome = yield* connection.run({ steps }, 'key record', FOREVER, work);
  const failure = failureOf(outcome);
  if (failure !== undefined || outcome.kind !== 'reply') return failure ?? { kind: 'withdrawn' };
  let newest: KeyRecord | undefined;
  for (const { attributes } of resultOf(outcome.reply, 0, 'X_Find')) {
    const record = readRecord(attributes[0]?.value ?? new Uint8Array());
    if (record === undefined || record === 'newer' || record.kind !== 'key') continue;
    if (newest === undefined || record.time > newest.time) newest = record;
  }
  return { kind: 'record', record: newest };
}

/**
 * Looks for the record of a key, on one active member after the other, since absence on one proves nothing. False
 * when none of them could be asked; an object whose `record` is null has none.
 */
export function* learnKeyRecord(group: Group, object: VirtualObject, work?: PendingWork): Task<boolean> {
  if (object.record !== undefined || object.session !== undefined) return true;
  if (group.ledger.record === undefined) return true;
  let answers = 0;
  const active = group.members.filter(({ isActive }) => isActive);
  // With nobody in service yet, those that are about to be.
  for (const { connection, state } of active.length > 0 ? active : group.members) {
    if (connection === undefined || connection.end !== undefined || state.name === 'joining') continue;
    const read = yield* readKeyRecord(connection, object.handle, work);
    if (read.kind !== 'record') continue;
    answers += 1;
    if (read.record === undefined) continue;
    // What is based on it is later, whatever the clock here says.
    group.observeClock(read.record.time);
    object.record = read.record;
    return true;
  }
  if (answers > 0) object.record = null;
  return answers > 0;
}

/** The same as it is now: other processes may have changed it since it was read. */
export function* relearnKeyRecord(group: Group, object: VirtualObject): Task<void> {
  const before = object.record;
  object.record = undefined;
  if (!(yield* learnKeyRecord(group, object))) object.record = before;
}

/** Of a key that nobody has any more its record may tell that another one has taken its place: then that is the group's. */
export function* takeNewReference(group: Group, object: VirtualObject): Task<void> {
  if (object.session !== undefined || !object.referenced) return;
  yield* relearnKeyRecord(group, object);
  const proofs = proofsIn(object.record?.note.proofs ?? {});
  if (proofs.size === 0 || areOfOneKey(proofs, object.reference)) return;
  object.reference.clear();
  referTo(object);
}

/** Takes the group's fingerprint of a key from its record; false where there is none. */
export function referTo(object: VirtualObject): boolean {
  const proofs = proofsIn(object.record?.note.proofs ?? {});
  if (proofs.size === 0) return false;
  for (const [kind, proof] of proofs) object.reference.set(kind, proof);
  object.referenced = true;
  return true;
}
