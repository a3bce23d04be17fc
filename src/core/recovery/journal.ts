import { optional, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { awaitClaim, sleepUntil } from '../base/waiting.js';
import { isReachable, readingRecords, runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { Login, MemberJob } from '../jobs/member-job.js';
import { type FoundRecord, foundIn, type RecordsFound, recordsIn } from '../records/ledger.js';
import { type ChangeRecord, changeIdOf, type DoneRecord } from '../records/record.js';

/** Callers wait while a member writes: so long at most, unless a single entry takes longer (ms). */
const LONGEST_REMOVAL = 8;
const MOST_AT_ONCE = 16;
/** While applications call, there is so much rest after a strike, times what that took, so that few of them meet one. */
const REST_MULTIPLE = 100;
const SHORTEST_REST = 1000;
const LONGEST_REST = 30_000;
/** When nobody has called for so long, nobody is kept waiting; times what the strike took (ms). */
const QUIET = 100;
const QUIET_MULTIPLE = 4;
/** So many looks or strikes in a row may fail; then it is left to the next occasion. */
const MOST_FAILURES = 5;
/** A look at a member, and a strike, may take so many times `hangAfter`. */
const WAIT_MULTIPLE = 5;

/** What stands on a member that is in step. */
interface MemberJournal {
  readonly member: Member;
  readonly records: RecordsFound;
  readonly login: Login;
}

interface JournalRemoval {
  readonly picture: MemberJournal;
  readonly handle: Uint8Array;
}

/**
 * Starts to take off the members what nobody needs any more: journal entries that everybody is done with, and then what
 * says so. It writes, and calls wait for writes: so it goes slowly while there are calls (Rule 17).
 */
export function shortenJournals(group: Group): void {
  const { port, ledger, isBeingCreated: isForming, pin } = group;
  if (group.shortening !== undefined || !group.hasTraces || isForming || pin === undefined || ledger.isNewer) return;
  const running = port.start(shortenExclusively(group));
  if (running.completed) return;
  group.shortening = running;
  running.add({
    wake: () => {
      group.shortening = undefined;
      if (running.ended?.ok === false && running.ended.error !== undefined) port.warn(running.ended.error);
    },
  });
}

/** Whether records that were just read have something that nobody needs any more. */
export function hasUnneeded(group: Group, records: readonly RecordsFound[]): boolean {
  const entries = records.flatMap(({ changes }) => changes).filter(({ record }) => record.kind === 'journal');
  if (entries.length === 0) return isWhole(group) && records.some(({ done }) => done.length > 0);
  return entries.some(({ record }) => group.missing(record).length === 0);
}

/** One process at a time; whoever was late looks too, since the other may not have known that all are in step. */
function* shortenExclusively(group: Group): Task<void> {
  const { port, ledger } = group;
  const release = yield* awaitClaim(port, `pkcs11-ha ${ledger.record?.id} journal`, SHORTEST_REST);
  try {
    for (let failures = 0; failures < MOST_FAILURES; ) {
      const journals = yield* journalsOf(group);
      const entries = unneededEntries(group, journals ?? []);
      const removals = entries.length > 0 ? entries : unneededDoneRecords(group, journals ?? []);
      // One that has come into step meanwhile may be what the others were waiting for.
      if (journals !== undefined && removals.length === 0 && journals.length >= inStep(group).length) return;
      if (journals !== undefined && removals.length === 0) continue;
      if (journals !== undefined && (yield* removeAll(group, removals))) {
        failures = 0;
        continue;
      }
      // A member was lost, or its sessions were: it is looked anew, when that may be over.
      failures += 1;
      const until = group.port.now() + SHORTEST_REST * failures;
      yield* sleepUntil(until);
    }
  } finally {
    release?.();
  }
}

/** Whether a member has nothing to catch up with: until then it needs its own journal to tell what came later. */
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

/** Whether all members are there, and in step. */
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
    const records = recordsIn(foundIn(end.reply, 0));
    journals.push({ member, records, login: end.login });
  }
  for (const { member, records } of journals) group.learnMissed(member, records);
  const isClean = journals.every(({ records: { changes, done } }) => changes.length === 0 && done.length === 0);
  if (isClean && isWhole(group)) group.hasTraces = false;
  // What another process has noted meanwhile may concern one of them.
  return journals.filter(({ member }) => isInStep(group, member));
}

/** The entries that all are done with whom they name. */
function unneededEntries(group: Group, journals: readonly MemberJournal[]): JournalRemoval[] {
  const done = new Map<string, Set<string>>();
  for (const { record } of journals.flatMap(({ records }) => records.done)) {
    const deeds = done.get(record.serial) ?? new Set();
    done.set(record.serial, deeds);
    for (const deed of record.deeds) deeds.add(deed);
  }
  const isDone = (record: ChangeRecord): boolean =>
    record.missed.every(
      (serial) => !group.ledger.isMember(serial) || done.get(serial)?.has(changeIdOf(record)) === true,
    );
  return journals.flatMap((journal) =>
    journal.records.changes
      .filter(({ record }) => record.kind === 'journal' && isDone(record))
      .map(({ handle }) => removalOf(journal, handle)),
  );
}

/** What says that members are done with entries that stand nowhere any more: only all of them together know. */
function unneededDoneRecords(group: Group, journals: readonly MemberJournal[]): JournalRemoval[] {
  if (!isWhole(group) || journals.length < (group.ledger.record?.members.length ?? 0)) return [];
  const replicaStatus = new Set(
    journals.flatMap(({ records }) => records.changes.map(({ record }) => changeIdOf(record))),
  );
  const isVoid = ({ record }: FoundRecord<DoneRecord>): boolean =>
    !record.deeds.some((deed) => replicaStatus.has(deed));
  return journals.flatMap((journal) =>
    journal.records.done.filter(isVoid).map(({ handle }) => removalOf(journal, handle)),
  );
}

function removalOf(journal: MemberJournal, handle: Uint8Array): JournalRemoval {
  return { picture: journal, handle: new Uint8Array(handle) };
}

/** False when it has to be looked anew. */
function* removeAll(group: Group, removals: readonly JournalRemoval[]): Task<boolean> {
  const { port, policy } = group;
  let size = 1;
  for (let at = 0; at < removals.length; ) {
    const { picture } = removals[at] as JournalRemoval;
    let batch = removals.slice(at, at + size);
    batch = batch.filter((removal) => removal.picture === picture);
    at += batch.length;
    const steps = batch.map(({ handle }) => optional(step('C_DestroyObject', handle)));
    const { login } = picture;
    const memberJob: MemberJob = { function: 'C_DestroyObject', objects: [], login, job: () => ({ steps }) };
    const startedAt = port.now();
    const until = startedAt + policy.hangAfter * WAIT_MULTIPLE + policy.writeHangAfter;
    if ((yield* runOnMember(group, picture.member, memberJob, until)).kind !== 'done') return false;
    const took = port.now() - startedAt;
    size = Math.max(1, Math.min(MOST_AT_ONCE, Math.floor((LONGEST_REMOVAL * batch.length) / Math.max(took, 0.01))));
    yield* rest(group, took);
  }
  return true;
}

/** Until few calls have met the strike, or nobody calls. */
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
