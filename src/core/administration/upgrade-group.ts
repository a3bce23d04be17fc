import { CKR } from '../../spec/codes.js';
import { refuse } from '../base/error.js';
import type { Task } from '../base/task.js';
import { readingRecords, runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import { isFailure } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { Progress } from '../group/progress.js';
import { learnKeyAliases } from '../group/record-learning.js';
import type { KeyRecord } from '../objects/key-note.js';
import { objectOf } from '../objects/note.js';
import { foundIn, recordsIn } from '../records/ledger.js';
import { type ChangeRecord, FIRST_FORMAT, FORMAT } from '../records/record.js';
import { surveyKeyRecords } from '../replicas/survey.js';
import { publish } from '../wrapping/group-record-publication.js';
import { learnLatest } from '../wrapping/group-record-reading.js';
import { checkMaySign } from '../wrapping/group-record-signature.js';
import { replaceKeyRecord } from '../wrapping/resealing.js';
import { checkStorage } from '../wrapping/storage-check.js';
import { recordOf, runClaimed, servingMembersOf } from './membership.js';

/** Result of `upgradeGroup`. */
export interface UpgradeReport {
  /** Format of the records before and after. */
  readonly from: number;
  readonly to: number;
  /** Number of key records that were rewritten, by member. */
  readonly rewritten: Readonly<Record<string, number>>;
}

/**
 * Raises the group's records to the current format. Every member must be in service, and no change of another process
 * under way. Former versions of this library then write no more in the group. Can be repeated after an interruption.
 */
export function* upgradeGroup(group: Group, deadline: number): Task<UpgradeReport> {
  recordOf(group);
  return yield* runClaimed(group, deadline, () => upgradeExclusively(group, deadline));
}

function* upgradeExclusively(group: Group, deadline: number): Task<UpgradeReport> {
  yield* learnLatest(group, deadline);
  const record = recordOf(group);
  const from = record.format ?? FIRST_FORMAT;
  if (group.ledger.isSigned) checkMaySign(group);
  const members = yield* servingMembersOf(group, record.members, deadline);
  for (const member of members) yield* checkNoneWrites(group, member, deadline);
  let scansKeyRecords = record.scansKeyRecords === true;
  for (const member of members) if (!(yield* checkStorage(group, member, deadline))) scansKeyRecords = true;
  const raised = { format: FORMAT, ...(scansKeyRecords ? { scansKeyRecords } : {}) };
  // The format comes first: a group of the new format may have key records that do not show their identity yet.
  if (from < FORMAT) yield* publish(group, () => raised, deadline);
  const rewritten: Record<string, number> = {};
  for (const member of members) rewritten[member.name] = yield* rewriteKeyRecords(group, member, deadline);
  return { from, to: FORMAT, rewritten };
}

/** Throws if a member holds the intent of a process that may still work, or notes of members that missed a change. */
function* checkNoneWrites(group: Group, member: Member, deadline: number): Task<void> {
  const end = yield* runOnMember(group, member, readingRecords, deadline);
  if (end.kind !== 'done') refuse(CKR.deviceRemoved, `the records of ${member.name} could not be read; try again`);
  const isOpen = ({ kind, writer, operation }: ChangeRecord): boolean =>
    kind === 'intent' && !group.changes.has(operation) && group.coordinator.isWriterGone(writer) !== true;
  for (const { record } of recordsIn(group.ledger.trust, foundIn(end.reply, 0)).changes) {
    if (isOpen(record))
      refuse(CKR.actionProhibited, `another process is changing objects on ${member.name}: end it, and upgrade again`);
    if (record.kind === 'journal' && group.missing(record).length > 0)
      refuse(
        CKR.actionProhibited,
        `a member has not caught up with all changes yet: see the status, and upgrade again`,
      );
  }
}

/** Has each key record on a member show the identity of its key; returns the number of records that did not. */
function* rewriteKeyRecords(group: Group, member: Member, deadline: number): Task<number> {
  const { connection } = member;
  const records = connection === undefined ? undefined : yield* surveyKeyRecords(connection);
  if (records === undefined || isFailure(records))
    refuse(CKR.deviceRemoved, `the key records of ${member.name} could not be read; upgrade again`);
  const old = [...records.values()].filter((record) => record.identity !== identityIn(group, record));
  const progress = new Progress(group, member.name, 'upgrading', old.length);
  for (const record of old) {
    const next = { ...record, identity: identityIn(group, record) };
    if (!(yield* replaceKeyRecord(group, member, next, record.time, deadline)))
      refuse(CKR.functionFailed, `a key record on ${member.name} could not be rewritten; upgrade again`);
    progress.advance();
  }
  progress.finish();
  learnKeyAliases(
    group,
    [...records.values()].map((record) => ({ ...record, identity: identityIn(group, record) })),
  );
  return old.length;
}

function identityIn({ objects }: Group, { note }: KeyRecord): string {
  return objects.digestOf(objectOf(note).identity);
}
