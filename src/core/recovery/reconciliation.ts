import { step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { awaitCompletion, waitUntil } from '../base/waiting.js';
import { isReachable, readingRecords, runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { JobBuilder } from '../jobs/job-builder.js';
import type { MemberJob } from '../jobs/member-job.js';
import { History } from '../records/history.js';
import { type FoundRecord, foundIn, type RecordsFound, recordsIn } from '../records/ledger.js';
import { type ChangeRecord, labelTemplate, reversalOf, summariesOf } from '../records/record.js';
import { CatchUp } from './catch-up.js';
import { notReconciled, type ReconciliationResult, type Reconciling, stepLimit } from './reconciling.js';
import { Redo } from './redo.js';

/** Members that are still on their way are waited for so long, so that what was left behind is settled on all (ms). */
const AWAIT_OTHERS = 1000;

/**
 * Settles what replicated calls have left on a member, before it serves: intents whose writers are gone are undone
 * or finished, and what it missed while it was away is done. One member after the other, so that what one of them
 * notes for the next is met by it. With a `refusal` nothing is done, and where there is something to do it is the reason.
 */
export function* reconcile(group: Group, member: Member, refusal?: string): Task<ReconciliationResult> {
  return yield* group.recoveryMutex.runExclusive(reconcileExclusively(group, member, refusal));
}

/** Every step of a settlement is waited for so long: how many there are nobody knows before. */
function patience(group: Group): number {
  return group.port.now() + stepLimit(group);
}

function* reconcileExclusively(group: Group, member: Member, refusal: string | undefined): Task<ReconciliationResult> {
  const { connection } = member;
  if (connection === undefined) return notReconciled('it has no host');
  if (connection.end !== undefined) return notReconciled(connection.end.reason);
  yield* awaitOthers(group, member, patience(group));
  yield* awaitOwnChanges(group, patience(group));
  // What is missed from here on is noted anew.
  member.recovery.begin();
  const own = yield* recordsOn(group, member, patience(group));
  if (own === undefined) return notReconciled('its records could not be read');
  // Those that have missed what it knows are told when it is done itself: it may need them until then.
  group.learnNames([own]);
  if (member.serial !== undefined) group.missed.forgetDone(member.serial);
  group.learnMissed(member, own);
  const settlement = new Reconciliation(group, member, own);
  for (const intent of own.changes) {
    if (intent.record.kind !== 'intent' || !isAbandoned(group, member, intent.record)) continue;
    const reason = refusal ?? (yield* settlement.resolveIntent(intent));
    if (reason !== undefined) return notReconciled(reason);
  }
  return yield* new CatchUp(settlement, own).run(refusal);
}

/** Whether nobody works on an intent any more; one whose writer may live is looked at again when its time is over. */
function isAbandoned(group: Group, member: Member, { operation, writer, expires }: ChangeRecord): boolean {
  const look = (after: number): false => {
    member.recovery.recheckIntents(group.port.now() + after);
    return false;
  };
  if (group.changes.has(operation)) return look(group.policy.writeHangAfter);
  if (writer === group.port.writer || group.port.isWriterGone(writer) === true) return true;
  const left = expires - group.port.wallNow();
  return left <= 0 || look(left);
}

/** Members that are on their way are waited for a little: then all of them are settled alike. */
function* awaitOthers(group: Group, member: Member, deadline: number): Task<void> {
  const until = Math.min(deadline, group.port.now() + AWAIT_OTHERS);
  const isComing = (): boolean => group.members.some((other) => other !== member && other.state.name === 'joining');
  yield* waitUntil(group.port, [group.changed], () => !isComing(), until);
}

/** What this process is about on other members is done soon, and then it is known what this one has missed. */
function* awaitOwnChanges(group: Group, deadline: number): Task<void> {
  const until = Math.min(deadline, group.port.now() + group.policy.hangAfter);
  const running = [...group.background];
  for (const each of running) {
    yield* awaitCompletion(group.port, each, until);
  }
}

/** What a member's records say now. */
function* recordsOn(group: Group, member: Member, deadline: number): Task<RecordsFound | undefined> {
  const end = yield* runOnMember(group, member, readingRecords, deadline);
  if (end.kind !== 'done') return undefined;
  const records = recordsIn(foundIn(end.reply, 0));
  for (const { record } of records.changes) group.observeClock(record.time);
  return records;
}

/** Whether somebody has left something there that nobody works on any more. */
export function* hasAbandoned(group: Group, member: Member, deadline: number): Task<boolean> {
  const records = yield* recordsOn(group, member, deadline);
  return records?.changes.some(({ record }) => record.kind === 'intent' && isAbandoned(group, member, record)) ?? false;
}

/** The settling of one member. */
class Reconciliation implements Reconciling {
  readonly redo: Redo;

  constructor(
    readonly group: Group,
    readonly member: Member,
    readonly own: RecordsFound,
  ) {
    this.redo = new Redo(group, () => patience(group));
  }

  /** Members that can be worked on: this one, and those that serve or are about to. */
  get reached(): readonly Member[] {
    return this.group.members.filter(
      (each) => each === this.member || (isReachable(each) && !['joining', 'drained'].includes(each.state.name)),
    );
  }

  records(each: Member): Task<RecordsFound | undefined> {
    return recordsOn(this.group, each, patience(this.group));
  }

  /** Runs an errand of the settlement. */
  *run(member: Member, memberJob: MemberJob): Task<boolean> {
    return (yield* runOnMember(this.group, member, memberJob, patience(this.group))).kind === 'done';
  }

  /** Undoes or finishes a call that nobody works on any more; ends with the reason when that cannot be now. */
  *resolveIntent({ record }: FoundRecord<ChangeRecord>): Task<string | undefined> {
    const { group } = this;
    const { operation } = record;
    const { fate, journals } = yield* this.#fateOf(record);
    // What was undone is so on all that could be asked then, and is noted for the others. Calls may have followed that
    // have succeeded.
    if (fate === 'open' && !(yield* this.#settleOpen(record, new History(journals))))
      return 'a call that was interrupted could not be settled';
    yield* this.remove(this.member, record);
    group.undoneOperations.delete(operation);
    group.committedOperations.delete(operation);
    return undefined;
  }

  /** A creation is undone, all else is finished where it has begun, but for what later calls have made void. */
  *#settleOpen(record: ChangeRecord, history: History): Task<boolean> {
    const { group, redo } = this;
    redo.history = history;
    const isForward = record.what !== 'create';
    const inStep = this.reached.filter((each) => this.#wasInStep(each));
    const isBegun = !isForward || (yield* redo.isBegun(record, inStep));
    const task = isForward ? history.leftOf(record) : reversalOf(record);
    if (task !== undefined) {
      const { reached } = this;
      const isConcerned = (serial: string | undefined): boolean =>
        isForward || serial === undefined || !history.isMadeAgain(record, serial);
      const away = this.#serials(record).filter((serial) => !reached.some((each) => each.serial === serial));
      const left = away.filter(isConcerned);
      for (const each of reached.filter(({ serial }) => isConcerned(serial))) {
        const isDone = isBegun ? yield* redo.apply(task, each) : yield* redo.keep(record, each);
        if (!isDone && each.serial !== undefined) left.push(each.serial);
      }
      if (isBegun && left.length > 0 && !(yield* this.#write({ ...task, kind: 'journal', missed: left }))) return false;
    }
    const what = isForward && isBegun ? 'finished' : 'undone';
    group.emit({ type: 'sync', member: this.member.name, what, objects: summariesOf(record) });
    return true;
  }

  /** One that has missed changes tells nothing about whether a call had begun. */
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

  /** What has become of a call, as this process knows it or a journal entry of it says; and the entries that it has seen. */
  *#fateOf({ operation }: ChangeRecord): Task<{
    readonly fate: 'committed' | 'undone' | 'open';
    readonly journals: readonly ChangeRecord[];
  }> {
    const journals: ChangeRecord[] = [];
    if (this.group.committedOperations.has(operation)) return { fate: 'committed', journals };
    if (this.group.undoneOperations.has(operation)) return { fate: 'undone', journals };
    for (const each of this.reached) {
      const records = each === this.member ? this.own : yield* this.records(each);
      for (const { record } of records?.changes ?? []) if (record.kind === 'journal') journals.push(record);
    }
    const entry = journals.find((record) => record.operation === operation);
    if (entry === undefined) return { fate: 'open', journals };
    return { fate: entry.undoes === true ? 'undone' : 'committed', journals };
  }

  /** Notes an entry on all members that can be reached; false when none of them took it. */
  *#write(record: ChangeRecord): Task<boolean> {
    const builder = new JobBuilder();
    builder.addRecord(record);
    const holders: string[] = [];
    const others = this.reached.filter(({ serial }) => serial === undefined || !record.missed.includes(serial));
    for (const each of others.length > 0 ? others : this.reached) {
      const isWritten = yield* this.run(each, {
        function: 'C_CreateObject',
        objects: [],
        job: () => ({ steps: builder.steps }),
      });
      if (isWritten) holders.push(each.serial ?? '');
    }
    if (holders.length > 0) this.group.missed.note(record, holders);
    return holders.length > 0;
  }

  *remove(member: Member, record: ChangeRecord): Task<void> {
    const steps = [step('X_Find', labelTemplate(record), 1, []), step('C_DestroyObject', { step: 0 })];
    yield* this.run(member, { function: 'C_DestroyObject', objects: [], job: () => ({ steps }) });
  }
}
