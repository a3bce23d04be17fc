import type { Task } from '../base/task.js';
import { awaitCompletion, sleepUntil, waitUntil } from '../base/waiting.js';
import { isReachable, runOnMember } from '../call/member-job-run.js';
import { takeClaim, whileClaimed } from '../group/claimed-work.js';
import type { Group } from '../group/group.js';
import { stepLimit } from '../group/hang-limits.js';
import type { Member } from '../group/member.js';
import { learnAllButChanges, learnMissedChanges } from '../group/record-learning.js';
import type { MemberJob } from '../jobs/member-job.js';
import { History } from '../records/history.js';
import type { FoundRecord, RecordsFound } from '../records/ledger.js';
import { type ChangeRecord, reversalOf, summariesOf } from '../records/record.js';
import { recordOutcome } from '../replication/outcome-record.js';
import { removingRecord, writingRecords } from '../replication/record-job.js';
import { DOUBT_POLL, isAbandoned, recordsOn } from './abandoned-intent.js';
import { othersTakingPart } from './absence.js';
import { CatchUp } from './catch-up.js';
import { notReconciled, type ReconciliationResult, type Reconciling } from './reconciling.js';
import { failedBecause, type RecoveryFailure } from './recovery-result.js';
import { Redo } from './redo.js';
import { runInTurn } from './turn.js';

/** Interval between looks at hosts whose process has ended (ms). */
const ENDING_POLL = 20;
/** Longest wait for members that are joining, so that intents are resolved on all of them (ms). */
const JOINING_LIMIT = 1000;

/**
 * Reconciles a member before it serves: resolves intents whose writers are gone, and applies the changes that the
 * member missed. Runs for one member at a time, so that each sees the journal entries of those before it. If there is a
 * `refusal`, does nothing, and returns the refusal if there is something to do.
 */
export function* reconcile(group: Group, member: Member, refusal?: RecoveryFailure): Task<ReconciliationResult> {
  yield* awaitEndingWriters(group, member);
  const result = yield* runInTurn(group, member, reconcileExclusively(group, member, refusal));
  if (result !== 'revoked') return result;
  return notReconciled(
    failedBecause('the member did not answer, and another one was waiting to be brought up to date'),
  );
}

/** Waits, at most as long as a write may take, for hosts whose process has ended and left an intent on the member. */
function* awaitEndingWriters(group: Group, member: Member): Task<void> {
  const { port, coordinator } = group;
  const until = stepDeadline(group);
  const records = yield* recordsOn(group, member, until);
  for (const { record } of records?.changes ?? []) {
    if (record.kind !== 'intent') continue;
    while (coordinator.isWriterEnding(record.writer) && port.now() < until) {
      member.explain('a host of an application that has ended still writes');
      yield* sleepUntil(port.now() + ENDING_POLL);
    }
  }
}

/** Returns the deadline of a step that begins now: steps have limits of their own, since their number is unknown. */
function stepDeadline(group: Group): number {
  return group.port.now() + stepLimit(group.policy);
}

function* reconcileExclusively(
  group: Group,
  member: Member,
  refusal: RecoveryFailure | undefined,
): Task<ReconciliationResult> {
  const { connection } = member;
  if (connection === undefined) return notReconciled(failedBecause('the member has no host'));
  if (connection.end !== undefined) return notReconciled(failedBecause(connection.end.reason));
  yield* awaitJoining(group, member, stepDeadline(group));
  yield* awaitOwnChanges(group, stepDeadline(group));
  // Changes that the member misses from here on require another recovery.
  member.recovery.begin(member.serial === undefined ? [] : group.coordinator.missedBy(member.serial));
  const first = yield* recordsOn(group, member, stepDeadline(group));
  const abandoned = new Set(
    first?.changes.flatMap(({ record }) =>
      record.kind === 'intent' && isAbandoned(group, member, record) ? [record.operation] : [],
    ),
  );
  // Reads again what writers that have ended meanwhile wrote last: they may have completed a change of those.
  const own = abandoned.size === 0 ? first : yield* recordsOn(group, member, stepDeadline(group));
  if (own === undefined) return notReconciled(failedBecause("the member's records could not be read"));
  // Journal entries for other members stay until this member is done: it may need them itself.
  learnAllButChanges(group, [own]);
  if (member.serial !== undefined) group.missed.forgetDone(member.serial);
  learnMissedChanges(group, member, own);
  const reconciliation = new Reconciliation(group, member, own);
  for (const intent of own.changes) {
    if (intent.record.kind !== 'intent' || !abandoned.has(intent.record.operation)) continue;
    const failure = refusal ?? (yield* reconciliation.resolveIntent(intent));
    if (failure !== undefined) return notReconciled(failure);
  }
  return yield* new CatchUp(reconciliation, own).run(refusal);
}

/** Waits a little for members that are joining. */
function* awaitJoining(group: Group, member: Member, deadline: number): Task<void> {
  const until = Math.min(deadline, group.port.now() + JOINING_LIMIT);
  const isAnyJoining = (): boolean => group.members.some((other) => other !== member && other.state.name === 'joining');
  yield* waitUntil(group.port, [group.changed], () => !isAnyJoining(), until);
}

/** Waits a little for this process's own changes: afterwards they tell what this member has missed. */
function* awaitOwnChanges(group: Group, deadline: number): Task<void> {
  const until = Math.min(deadline, group.port.now() + group.policy.hangAfter);
  const running = [...group.background];
  for (const each of running) {
    yield* awaitCompletion(group.port, each, until);
  }
}

/** Reconciliation of one member. */
class Reconciliation implements Reconciling {
  readonly redo: Redo;
  /** Members that do not serve and did not answer. */
  readonly #silent = new Set<Member>();

  constructor(
    readonly group: Group,
    readonly member: Member,
    readonly own: RecordsFound,
  ) {
    this.redo = new Redo(group, () => stepDeadline(group));
  }

  /** Members that can be worked on: this member, and those that serve or are about to. */
  get reached(): readonly Member[] {
    return this.group.members.filter(
      (each) =>
        each === this.member ||
        (isReachable(each) && !['joining', 'drained'].includes(each.state.name) && !this.#silent.has(each)),
    );
  }

  *records(each: Member): Task<RecordsFound | undefined> {
    const records = yield* recordsOn(this.group, each, this.#deadlineFor(each));
    if (records === undefined) this.#noteSilence(each);
    return records;
  }

  /** Runs a member job of the reconciliation; returns true if it was done. */
  *run(member: Member, memberJob: MemberJob): Task<boolean> {
    const end = yield* runOnMember(this.group, member, memberJob, this.#deadlineFor(member));
    if (end.kind !== 'done') this.#noteSilence(member);
    return end.kind === 'done';
  }

  /** Returns the deadline of a step on a member: another member that does not serve may hang without anybody's notice. */
  #deadlineFor(each: Member): number {
    const { port, policy } = this.group;
    return each === this.member || each.isServing ? stepDeadline(this.group) : port.now() + policy.hangAfter;
  }

  /** Leaves out a member that does not serve and did not answer: it counts as away. */
  #noteSilence(each: Member): void {
    if (each !== this.member && !each.isServing) this.#silent.add(each);
  }

  /**
   * Undoes or finishes a call that no process works on any more; returns the failure if that cannot be done now. While a
   * member that took part is away, the call stays in doubt: that member may be the only one that knows of its success.
   */
  *resolveIntent({ record }: FoundRecord<ChangeRecord>): Task<RecoveryFailure | undefined> {
    const { group } = this;
    const { operation } = record;
    const { fate, journals } = yield* this.#fateOf(record);
    if (fate === 'in doubt') {
      this.member.recovery.recheckIntents(group.port.now() + DOUBT_POLL);
      return undefined;
    }
    // The catch-up takes the change back here, and removes the intent then.
    if (group.owedReversals.get(operation)?.missed.includes(this.member.serial ?? '') === true) return undefined;
    if (fate === 'committed') yield* recordOutcome(group, this.reached, operation, true);
    // A call that was undone or committed is only removed here: later calls may have succeeded, and undoing the call a
    // second time could destroy their objects.
    if (fate === 'open' && !(yield* this.#resolveOpen(record, new History(journals))))
      return failedBecause('an interrupted call could not be resolved');
    yield* this.remove(this.member, record);
    group.undoneOperations.delete(operation);
    return undefined;
  }

  /** Undoes a creation; finishes any other call that has begun, except for parts that later calls made void. */
  *#resolveOpen(record: ChangeRecord, history: History): Task<boolean> {
    const { group, redo } = this;
    redo.history = history;
    const isForward = record.what !== 'create';
    // The holder of the intent was in step when it took it.
    const hadObject = (each: Member): boolean => each === this.member || this.#wasInStep(each);
    const isBegun = !isForward || (yield* redo.isBegun(record, this.reached, hadObject));
    const task = isForward ? history.leftOf(record) : reversalOf(record);
    if (task !== undefined) {
      const { reached } = this;
      const isConcerned = (serial: string | undefined): boolean =>
        isForward || serial === undefined || !history.isMadeAgain(record, serial);
      const away = this.#serials(record).filter((serial) => !reached.some((each) => each.serial === serial));
      const left = away.filter(isConcerned);
      for (const each of reached.filter(({ serial }) => isConcerned(serial))) {
        const isDone = yield* this.#whileClaimed(each, isBegun ? redo.apply(task, each) : redo.keep(record, each));
        if (!isDone && each.serial !== undefined) left.push(each.serial);
      }
      if (isBegun && left.length > 0 && !(yield* this.#write({ ...task, kind: 'journal', missed: left }))) return false;
    }
    const what = isForward && isBegun ? 'finished' : 'undone';
    yield* recordOutcome(this.group, this.reached, record.operation, what === 'finished');
    group.emit({ type: 'sync', member: this.member.name, what, objects: summariesOf(record) });
    return true;
  }

  /**
   * Writes on another member while no other recovery does, so that no object is made twice there; returns false if one
   * is under way, which hears of the change by a journal entry. This member's recovery has its claim already.
   */
  *#whileClaimed(each: Member, work: Task<boolean>): Task<boolean> {
    const { group } = this;
    if (each === this.member) return yield* work;
    if (each.recovery.claim !== undefined || each.serial === undefined) return false;
    const claim = yield* takeClaim(group, `member ${each.serial}`, group.port.now());
    if (claim === undefined) return false;
    try {
      return yield* whileClaimed(group, [claim], work);
    } finally {
      claim.release();
    }
  }

  /** Returns true if the member has all changes; only then does a lack of an object tell that it was destroyed. */
  #wasInStep({ serial, recovery: { failedChanges } }: Member): boolean {
    const { missed, ledger } = this.group;
    return (
      failedChanges.size === 0 && !ledger.isFilling(serial) && (serial === undefined || missed.count(serial) === 0)
    );
  }

  #serials({ missed }: ChangeRecord): readonly string[] {
    const all = this.group.ledger.record?.members.map(({ serial }) => serial) ?? [];
    return [...new Set([...all, ...missed])];
  }

  /** Returns the fate of a call, from this process's memory or a journal entry, and the journal entries read. */
  *#fateOf(intent: ChangeRecord): Task<{
    readonly fate: 'committed' | 'undone' | 'open' | 'in doubt';
    readonly journals: readonly ChangeRecord[];
  }> {
    const { operation } = intent;
    const journals: ChangeRecord[] = [];
    const heard = new Set<string>();
    if (this.group.undoneOperations.has(operation)) return { fate: 'undone', journals };
    for (const each of this.reached) {
      const records = each === this.member ? this.own : yield* this.records(each);
      for (const { record } of records?.changes ?? []) if (record.kind === 'journal') journals.push(record);
      if (records !== undefined) heard.add(each.serial ?? '');
    }
    const entries = journals.filter((record) => record.operation === operation);
    if (entries.some(({ undoes }) => undoes !== true)) return { fate: 'committed', journals };
    if (entries.length > 0) return { fate: 'undone', journals };
    const isKnown = othersTakingPart(this.group, this.member, intent).every((serial) => heard.has(serial));
    return { fate: isKnown ? 'open' : 'in doubt', journals };
  }

  /** Writes a journal entry on the reached members; returns false if none of them took it. */
  *#write(record: ChangeRecord): Task<boolean> {
    const memberJob = writingRecords([record]);
    const holders: string[] = [];
    const others = this.reached.filter(({ serial }) => serial === undefined || !record.missed.includes(serial));
    for (const each of others.length > 0 ? others : this.reached) {
      if (yield* this.run(each, memberJob)) holders.push(each.serial ?? '');
    }
    if (holders.length > 0) this.group.noteMissed(record, holders);
    return holders.length > 0;
  }

  /** Removes a record from a member. One that stays is looked at again. */
  *remove(member: Member, record: ChangeRecord): Task<void> {
    if (yield* this.run(member, removingRecord(record))) return;
    member.recovery.recheckIntents(this.group.port.now() + DOUBT_POLL);
  }
}
