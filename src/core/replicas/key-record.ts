import { resultOf, step } from '../../spec/job.js';
import { FOREVER, type Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { isInStep } from '../group/in-step.js';
import { type Failure, isFailure, type PendingWork, replyOrFailure } from '../group/job-outcome.js';
import type { KeyRecord } from '../objects/key-note.js';
import { proofsIn } from '../objects/note.js';
import { areOfOneKey, type VirtualObject } from '../objects/object.js';
import { keyRecordIn } from '../records/ledger.js';
import { keyRecordTemplate, recordTypes } from '../records/record-template.js';

/** Maximum number of records read for one key; normally there is one, and two while one is replaced. */
const MOST_RECORDS = 16;

/** Key record of a member; undefined if the member has none. */
interface KeyRecordRead {
  readonly kind: 'record';
  readonly record: KeyRecord | undefined;
  /** All of them, the newest first: an interrupted write can leave two. */
  readonly records: readonly KeyRecord[];
  /** Number of values that do not have the form of records. */
  readonly invalid: number;
}

/** Reads the record of a key on one member; while one is replaced, the newest. */
export function* readKeyRecord(
  connection: Connection,
  handle: number,
  work?: PendingWork,
): Task<KeyRecordRead | Failure> {
  const steps = [step('X_Find', keyRecordTemplate(handle), MOST_RECORDS, recordTypes)];
  const reply = replyOrFailure(yield* connection.run({ steps }, 'key record', FOREVER, work));
  if (isFailure(reply)) return reply;
  const read = resultOf(reply, 0, 'X_Find').map((object) => keyRecordIn(object));
  const records = read.filter((record) => typeof record === 'object').sort((a, b) => b.time - a.time);
  const invalid = read.filter((record) => record === 'invalid').length;
  return { kind: 'record', record: records[0], records, invalid };
}

/**
 * Looks for the record of a key on one active member after the other, since absence on one proves nothing (Rule 14).
 * Sets the object's `record`, to null if no member has one. Returns false if no member could be asked.
 */
export function* learnKeyRecord(group: Group, object: VirtualObject, work?: PendingWork): Task<boolean> {
  return object.record !== undefined || (yield* relearnKeyRecord(group, object, work));
}

/**
 * Does the same although the record is known: other processes may change it. The object has its old one meanwhile, and
 * keeps it if no member answers.
 */
export function* relearnKeyRecord(group: Group, object: VirtualObject, work?: PendingWork): Task<boolean> {
  if (object.session !== undefined || group.ledger.record === undefined) return true;
  let answers = 0;
  let isCertain = false;
  const active = group.members.filter(({ isActive }) => isActive);
  // Before the first member is active, the others that have joined are asked.
  for (const member of active.length > 0 ? active : group.members) {
    const { connection, state } = member;
    if (connection === undefined || connection.end !== undefined || state.name === 'joining') continue;
    const mayTell = isInStep(group, member) || !object.isRecorded;
    const read = yield* readKeyRecord(connection, object.handle, work);
    if (read.kind !== 'record') continue;
    answers += 1;
    isCertain ||= mayTell;
    group.invalidRecords.note(member, 'keys', read.invalid, false);
    if (read.record === undefined) continue;
    // A later record must have a later time, even if this process's clock is behind.
    group.observeClock(read.record.time);
    keepRecord(object, read.record);
    return true;
  }
  // A member that has missed changes may lack the record of a key that others have.
  if (isCertain) object.record = null;
  return answers > 0;
}

/** Keeps the record of a key, which tells that the key's handle stands in it. */
export function keepRecord(object: VirtualObject, record: KeyRecord | undefined): void {
  object.record = record;
  if (record?.identity !== undefined) object.isRecorded = true;
}

/** If the key's record has proofs of another key, a successor has taken its place: takes its proofs as reference. */
export function* takeNewReference(group: Group, object: VirtualObject): Task<void> {
  if (object.session !== undefined || !object.referenced) return;
  yield* relearnKeyRecord(group, object);
  const proofs = proofsIn(object.record?.note.proofs ?? {});
  if (proofs.size === 0 || areOfOneKey(proofs, object.reference)) return;
  object.reference.clear();
  referTo(object);
}

/** Takes the reference of a key from its record; returns false if there is none. */
export function referTo(object: VirtualObject): boolean {
  const proofs = proofsIn(object.record?.note.proofs ?? {});
  if (proofs.size === 0) return false;
  for (const [kind, proof] of proofs) object.reference.set(kind, proof);
  object.referenced = true;
  return true;
}
