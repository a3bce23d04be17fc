import { optional, step } from '../../spec/job.js';
import { FOREVER, type Task } from '../base/task.js';
import { sleepUntil } from '../base/waiting.js';
import { isReachable, readingRecords, runOnMember } from '../call/member-job-run.js';
import { takeClaim, whileClaimed } from '../group/claimed-work.js';
import type { Group } from '../group/group.js';
import { stepLimit } from '../group/hang-limits.js';
import type { Member } from '../group/member.js';
import { learnMissedChanges } from '../group/record-learning.js';
import type { Login, MemberJob } from '../jobs/member-job.js';
import { type FoundRecord, type RecordsFound, recordsAt } from '../records/ledger.js';
import { type ChangeRecord, changeIdOf, type DoneRecord } from '../records/record.js';

/** Longest time that one removal may keep callers waiting, unless a single entry takes longer (ms). */
const LONGEST_REMOVAL = 8;
/** Maximum number of entries that one job removes. */
const MOST_AT_ONCE = 16;
/** Rest after a removal while applications call, as a multiple of its duration, so that few calls meet one. */
const REST_MULTIPLE = 100;
/** Shortest rest after a removal, and interval between tries (ms). */
const SHORTEST_REST = 1000;
/** Longest rest after a removal (ms). */
const LONGEST_REST = 30_000;
/** Shortest time without calls after which the next removal may begin (ms). */
const QUIET = 100;
/** Time without calls after which the next removal may begin, as a multiple of the last removal's duration. */
const QUIET_MULTIPLE = 4;
/** Number of failures in a row after which this process leaves the rest to the next occasion. */
const MOST_FAILURES = 5;
/** Time limit of a read, as a multiple of `hangAfter`. */
const WAIT_MULTIPLE = 5;

/** Records on a member that is in step. */
interface MemberJournal {
  readonly member: Member;
  readonly records: RecordsFound;
  readonly login: Login;
}

/** Record that is to be removed, and the journal that holds it. */
interface JournalRemoval {
  readonly journal: MemberJournal;
  readonly handle: Uint8Array;
}

/**
 * Starts to remove journal entries that all named members are done with, and then the done records of these. Calls wait
 * for its writes, so the removal is slow while there are calls (Rule 17).
 */
export function shortenJournals(group: Group): void {
  const { port, ledger, isBeingCreated, pin } = group;
  if (!group.hasTraces || isBeingCreated || pin === undefined || ledger.isNewer) return;
  group.isShorteningDue = true;
  if (group.shortening !== undefined) return;
  const running = port.start(shortenExclusively(group));
  if (running.completed) return;
  group.shortening = running;
  running.add({
    wake: () => {
      group.shortening = undefined;
      if (running.ended?.ok === false && running.ended.error !== undefined) port.warn(running.ended.error);
      // A member may have come into step after the last look.
      else if (group.isShorteningDue) shortenJournals(group);
    },
  });
}

/** Returns true if records that were just read hold entries or done records that can be removed. */
export function hasUnneeded(group: Group, records: readonly RecordsFound[]): boolean {
  const entries = records.flatMap(({ changes }) => changes).filter(({ record }) => record.kind === 'journal');
  if (entries.length === 0) return isWhole(group) && records.some(({ done }) => done.length > 0);
  return entries.some(({ record }) => group.missing(record).length === 0);
}

/** Removes unneeded records while this process has the claim; a process that waited for the claim looks again. */
function* shortenExclusively(group: Group): Task<void> {
  const claim = yield* takeClaim(group, 'journal', FOREVER);
  if (claim === undefined) return;
  try {
    yield* whileClaimed(group, [claim], shorten(group));
  } catch (error) {
    // A process that stood still leaves the rest to the one that has the claim now.
    if (claim.isHeld) throw error;
  } finally {
    claim.release();
  }
}

function* shorten(group: Group): Task<void> {
  const { port } = group;
  for (let failures = 0; failures < MOST_FAILURES; ) {
    group.isShorteningDue = false;
    const journals = yield* journalsOf(group);
    const entries = unneededEntries(group, journals ?? []);
    const removals = entries.length > 0 ? entries : unneededDoneRecords(group, journals ?? []);
    // If a member has come into step meanwhile, its done records may free more entries.
    if (journals !== undefined && removals.length === 0 && journals.length >= inStep(group).length) return;
    if (journals !== undefined && removals.length === 0) continue;
    if (journals !== undefined && (yield* removeAll(group, removals))) {
      failures = 0;
      continue;
    }
    // After the loss of a member or its sessions the journals are read again, a little later.
    failures += 1;
    yield* sleepUntil(port.now() + SHORTEST_REST * failures);
  }
}

/** Returns true if a member has nothing to catch up with; until then the member needs its own journal. */
function isInStep(group: Group, member: Member): boolean {
  const { serial, state, recovery } = member;
  if (serial === undefined || !isReachable(member) || recovery.isNeeded || recovery.failedChanges.size > 0)
    return false;
  if (group.ledger.isFilling(serial) || group.missed.count(serial) > 0) return false;
  return state.name === 'active' || state.name === 'standby';
}

function inStep(group: Group): readonly Member[] {
  return group.members.filter((member) => isInStep(group, member) && group.ledger.isMember(member.serial ?? ''));
}

/** Returns true if all members of the record are reachable and in step. */
function isWhole(group: Group): boolean {
  const { ledger, members } = group;
  return (
    ledger.record?.members.every(({ serial }) => {
      const member = members.find((each) => each.serial === serial);
      return member !== undefined && isInStep(group, member);
    }) === true
  );
}

function* journalsOf(group: Group): Task<readonly MemberJournal[] | undefined> {
  const { port, policy } = group;
  const journals: MemberJournal[] = [];
  for (const member of inStep(group)) {
    const end = yield* runOnMember(group, member, readingRecords, port.now() + policy.hangAfter * WAIT_MULTIPLE);
    if (end.kind !== 'done') return undefined;
    const records = recordsAt(group.ledger.trust, end.reply, 0);
    group.invalidRecords.note(member, 'groupwide', records.invalid);
    journals.push({ member, records, login: end.login });
  }
  for (const { member, records } of journals) learnMissedChanges(group, member, records);
  const isClean = journals.every(({ records: { changes, done } }) => changes.length === 0 && done.length === 0);
  if (isClean && isWhole(group)) group.hasTraces = false;
  // An entry that another process wrote meanwhile may put a member out of step.
  return journals.filter(({ member }) => isInStep(group, member));
}

/**
 * Returns the journal entries that all members named in them are done with. While the intent of the same call stands,
 * the entry stays: without it, the call would be undone.
 */
function unneededEntries(group: Group, journals: readonly MemberJournal[]): JournalRemoval[] {
  const open = new Set(
    journals.flatMap(({ records }) =>
      records.changes.flatMap(({ record }) => (record.kind === 'intent' ? [record.operation] : [])),
    ),
  );
  const done = new Map<string, Set<string>>();
  for (const { record } of journals.flatMap(({ records }) => records.done)) {
    const ids = done.get(record.serial) ?? new Set();
    done.set(record.serial, ids);
    for (const id of record.deeds) ids.add(id);
  }
  const isDone = (record: ChangeRecord): boolean =>
    record.missed.every(
      (serial) => !group.ledger.isMember(serial) || done.get(serial)?.has(changeIdOf(record)) === true,
    );
  return journals.flatMap((journal) =>
    journal.records.changes
      .filter(({ record }) => record.kind === 'journal' && !open.has(record.operation) && isDone(record))
      .map(({ handle }) => removalOf(journal, handle)),
  );
}

/** Returns the done records whose entries stand on no member any more; needs the journals of all members. */
function unneededDoneRecords(group: Group, journals: readonly MemberJournal[]): JournalRemoval[] {
  if (!isWhole(group) || journals.length < (group.ledger.record?.members.length ?? 0)) return [];
  const standing = new Set(journals.flatMap(({ records }) => records.changes.map(({ record }) => changeIdOf(record))));
  const isVoid = ({ record }: FoundRecord<DoneRecord>): boolean => !record.deeds.some((id) => standing.has(id));
  return journals.flatMap((journal) =>
    journal.records.done.filter(isVoid).map(({ handle }) => removalOf(journal, handle)),
  );
}

function removalOf(journal: MemberJournal, handle: Uint8Array): JournalRemoval {
  return { journal, handle: new Uint8Array(handle) };
}

/** Removes records batch by batch; returns false if a batch failed and the journals must be read again. */
function* removeAll(group: Group, removals: readonly JournalRemoval[]): Task<boolean> {
  const { port, policy } = group;
  let size = 1;
  for (let at = 0; at < removals.length; ) {
    const { journal } = removals[at] as JournalRemoval;
    let batch = removals.slice(at, at + size);
    batch = batch.filter((removal) => removal.journal === journal);
    at += batch.length;
    const steps = batch.map(({ handle }) => optional(step('C_DestroyObject', handle)));
    const { login } = journal;
    const memberJob: MemberJob = { function: 'C_DestroyObject', objects: [], login, job: () => ({ steps }) };
    const startedAt = port.now();
    const until = startedAt + stepLimit(policy);
    if ((yield* runOnMember(group, journal.member, memberJob, until)).kind !== 'done') return false;
    const took = port.now() - startedAt;
    size = Math.max(1, Math.min(MOST_AT_ONCE, Math.floor((LONGEST_REMOVAL * batch.length) / Math.max(took, 0.01))));
    yield* rest(group, took);
  }
  return true;
}

/** Waits until the removal has cost callers little on average, or until no application calls. */
function* rest(group: Group, took: number): Task<void> {
  const { port } = group;
  const until = port.now() + Math.min(LONGEST_REST, Math.max(SHORTEST_REST, took * REST_MULTIPLE));
  while (port.now() < until) {
    const { requests } = group;
    const quiet = port.now() + Math.max(QUIET, took * QUIET_MULTIPLE);
    yield* sleepUntil(quiet);
    if (group.requests === requests) return;
  }
}
