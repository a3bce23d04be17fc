import type { Attribute } from '../../spec/attribute.js';
import { CKR } from '../../spec/codes.js';
import { TokenError, UnknownOutcomeError } from '../base/error.js';
import type { AttemptRecord } from '../base/event.js';
import { Signal, type Task } from '../base/task.js';
import { race, runTogether } from '../base/waiting.js';
import { rereadAliases } from '../call/lookup.js';
import { isReachable, type MemberJobEnd, runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { MemberJob } from '../jobs/member-job.js';
import type { VirtualObject } from '../objects/object.js';
import { type ChangeRecord, reversalOf } from '../records/record.js';
import { missedBy, writeJournal } from './change-journal.js';
import { type IntendedChange, intentOf, writeIntentOn } from './intent.js';
import { removingRecord } from './record-job.js';
import { awaitSuspects } from './suspects.js';
import { destroyingHandles, type WrittenObjects } from './written-objects.js';

/** Time beyond the call's deadline for undoing the change or noting it for other members (ms). */
const CLEANUP_TIME = 10_000;
/** Reason for the recovery of members that a change did not come to. */
const MISSED = 'the member missed a change';
/** Interval between tries to write the intent when every member was lost with it (ms). */
const INTENT_INTERVAL = 100;

/**
 * Course of one replicated call: it writes an intent on one member, works on all members, then removes the intent. A
 * process that finds an intent without a living writer undoes the change. If a journal entry of the same operation says
 * that the call succeeded, the process only removes the intent.
 */
export class ReplicatedChange {
  /** Name of the change in records. Each intent that may stand on a member has a name of its own. */
  operation: string;
  /** True if the caller has left: the change is undone unless it is committed. */
  givenUp: boolean = false;
  readonly records: AttemptRecord[] = [];
  #intent: WrittenObjects | undefined;
  #record: ChangeRecord | undefined;
  /** Result of the call, set when the change can no longer be undone. */
  committed: { readonly value: unknown } | undefined;
  /** True while a member does what cannot be undone, so that the caller must wait for the outcome. */
  isIrrevocable: boolean = false;
  /** True if the caller has given up and waits for the outcome only. */
  isUnwanted: boolean = false;
  /** True if the abandoned change is finished by a recovery, should it have begun. */
  isInDoubt: boolean = false;
  /** True if all members were lost before any had begun the change. */
  hasNotBegun: boolean = false;
  /** Fires when the caller has given up, or the change was decided. */
  readonly moved: Signal = new Signal();

  constructor(
    readonly group: Group,
    readonly functionName: string,
    readonly deadline: number,
  ) {
    this.operation = group.newOperation();
  }

  /** Time by which work that has begun is finished or undone (ms of the port's clock). */
  get cleanupBy(): number {
    return Math.max(this.deadline, this.group.port.now()) + CLEANUP_TIME;
  }

  /** Timestamp of the change; undefined before its intent. */
  get time(): number | undefined {
    return this.#record?.time;
  }

  /** Returns the members that the change goes to, active and standby. Waits for the first one until the deadline. */
  *participants(): Task<readonly Member[]> {
    const { group } = this;
    yield* awaitSuspects(group, this.deadline, () => this.givenUp);
    for (;;) {
      const present = group.members.filter(
        (member) => isReachable(member) && (member.isActive || member.state.name === 'standby'),
      );
      if (present.length > 0) return present;
      if (group.isHopeless || group.port.now() >= this.deadline || this.givenUp)
        throw this.failure(CKR.deviceRemoved, `no member could be reached: ${group.describeMembers()}`);
      yield* race([group.changed], this.deadline);
    }
  }

  /**
   * Writes the intent on the first member that takes it; returns the members that the change goes on with. A member
   * lost with the intent leaves the change, and resolves the intent when it recovers. If every member was lost with the
   * intent, nothing else has been done, and the members that come back are tried.
   */
  *writeIntent(
    members: readonly Member[],
    what: IntendedChange['what'],
    objects: readonly VirtualObject[],
    changes: readonly Attribute[] = [],
    former: readonly Attribute[] = [],
    before: IntendedChange['before'] = 0,
  ): Task<readonly Member[]> {
    const { group } = this;
    for (let present = members; ; present = yield* this.participants()) {
      const change = { what, objects, changes, former, before };
      const record = intentOf(group, this.operation, present, change, this.cleanupBy);
      this.#record = record;
      const { taken, left, mayStand, refused } = yield* writeIntentOn(this, present, record);
      this.#intent = taken;
      if (taken !== undefined) return left;
      if (mayStand) this.#rename();
      if (refused !== undefined) throw this.refusalError(refused);
      if (this.givenUp || group.isHopeless || group.port.now() + INTENT_INTERVAL >= this.deadline)
        throw this.failure(CKR.deviceRemoved, `no member took the intent: ${group.describeMembers()}`);
      yield* race([group.changed], group.port.now() + INTENT_INTERVAL);
    }
  }

  /** Gives the change a new name. The old name counts as undone, for members that hold an intent of that name. */
  #rename(): void {
    const { changes, undoneOperations } = this.group;
    undoneOperations.add(this.operation);
    const isTracked = changes.delete(this.operation);
    this.operation = this.group.newOperation();
    if (isTracked) changes.add(this.operation);
  }

  /** Runs a member job of this change; keeps a failure as evidence for the error. */
  *run(member: Member, memberJob: MemberJob, deadline: number = this.deadline): Task<MemberJobEnd> {
    const identities = memberJob.objects.map(({ identity }) => identity);
    let end = yield* runOnMember(this.group, member, memberJob, deadline);
    if (end.kind === 'lacks' && (yield* this.#findNewIdentities(memberJob.objects, identities, deadline)))
      end = yield* runOnMember(this.group, member, memberJob, deadline);
    if (end.kind !== 'done') this.records.push(end.record);
    return end;
  }

  /** Rereads the aliases of objects that a member lacks; returns true if another process has renamed one of them. */
  *#findNewIdentities(
    objects: readonly VirtualObject[],
    known: readonly Uint8Array[],
    deadline: number,
  ): Task<boolean> {
    if (objects.every(({ session }) => session !== undefined)) return false;
    try {
      yield* rereadAliases(this.group, objects, deadline);
    } catch (error) {
      // A TokenError means that no member could be asked.
      if (!(error instanceof TokenError)) throw error;
    }
    return objects.some(({ identity }, index) => identity !== known[index]);
  }

  /**
   * Ends a change that all of `done` have, with the value of its call: notes on them which members missed the change,
   * then removes the intent. Either makes sure that a creation is not undone any more.
   */
  *commit(done: readonly Member[], value: unknown): Task<void> {
    if (yield* this.#recordCommit(done)) return this.markCommitted(value);
    const { group } = this;
    this.committed = undefined;
    group.outcomes.note(this.operation, 'unknown');
    // A member that was lost may hold a journal entry: the intent is resolved by what stands on the members.
    this.#leaveToRecovery(undefined);
    // Members that are back already are to be recovered too.
    for (const member of done) member.requireRecovery(MISSED);
    throw this.unknownOutcome('the last member was lost before the change was committed');
  }

  /** Writes on members that the change has happened; returns false if no member holds that. */
  *#recordCommit(done: readonly Member[]): Task<boolean> {
    const { group } = this;
    // Members that missed the change catch up on a fresh host, also those that are still reachable.
    for (const member of group.members) if (!done.includes(member)) member.requireRecovery(MISSED);
    let left = done;
    const intent = this.#intent;
    if (intent !== undefined && left.includes(intent.member)) {
      left = yield* this.#noteMissed(left, missedBy(group, left));
      const removed = left.includes(intent.member) ? yield* this.#removeIntent(intent) : false;
      if (removed) return true;
      left = left.filter((member) => member !== intent.member);
    }
    // If the intent's holder is lost, the journal entry on the others proves that the call succeeded.
    return (yield* this.#noteMissed(left, missedBy(group, left))).length > 0;
  }

  /** Destroys the written objects, notes the reversal for members that cannot be reached, and ends the change. */
  *undo(written: readonly WrittenObjects[], doubtful: readonly Member[]): Task<void> {
    const until = this.cleanupBy;
    const left = new Set(doubtful);
    const undone: Member[] = [];
    const jobs = written.map((each) => this.run(each.member, destroyingHandles(each), until));
    const ends = yield* runTogether(this.group, jobs);
    ends.forEach((end, index) => {
      const member = written[index]?.member;
      if (member === undefined) return;
      if (end.kind === 'done') undone.push(member);
      else left.add(member);
    });
    yield* this.abandon(undone, [...left]);
  }

  /**
   * Ends a change that has not happened. Members in doubt may have parts of the change: they undo them when they
   * recover, by a journal entry on the other members.
   */
  *abandon(reached: readonly Member[], doubtful: readonly Member[]): Task<void> {
    this.group.outcomes.note(this.operation, 'not done');
    for (const member of doubtful) member.requireRecovery(MISSED);
    const reversal = this.#reversal(doubtful.flatMap(({ serial }) => serial ?? []));
    if (reversal !== undefined && reversal.missed.length > 0) {
      // Participants that the change did not come to hold the entry too: another process may recover the doubtful ones.
      const untouched = this.group.members.filter(
        (member) => this.#takesPart(member) && !reached.includes(member) && !doubtful.includes(member),
      );
      const noted = yield* writeJournal(this, [...reached, ...untouched], reversal);
      if (noted.length === 0) return this.#leaveToRecovery(reversal);
    }
    const intent = this.#intent;
    if (intent === undefined) return;
    const removed = !doubtful.includes(intent.member) && (yield* this.#removeIntent(intent));
    // While the intent stands, this process remembers that it is undone; after its end another process undoes it.
    if (!removed) this.group.undoneOperations.add(this.operation);
  }

  /**
   * Leaves a change that no member has a journal entry of to its intent, which every process resolves alike: a creation
   * is undone, and any other change that has begun is finished. Its caller is told that the outcome is unknown.
   */
  #leaveToRecovery(reversal: ChangeRecord | undefined): void {
    this.isInDoubt = this.#record?.what !== 'create';
    this.#intent?.member.requireRecovery(MISSED);
    if (this.isInDoubt || reversal === undefined) return;
    // Members without the intent may come back first. Nobody was told of success, and no member holds that.
    this.group.oweReversal(reversal);
    this.group.undoneOperations.add(this.operation);
  }

  #takesPart(member: Member): boolean {
    const { serial = '', isActive } = member;
    return isActive && isReachable(member) && this.#record?.missed.includes(serial) !== true;
  }

  /** Returns the journal entry that makes the members in `missed` undo the change. */
  #reversal(missed: readonly string[]): ChangeRecord | undefined {
    return this.#record === undefined ? undefined : { ...reversalOf(this.#record), kind: 'journal', missed };
  }

  *#removeIntent(intent: WrittenObjects): Task<boolean> {
    const { member } = intent;
    let end = yield* this.run(member, destroyingHandles(intent), this.cleanupBy);
    // After a new login the handle is void; the label still finds the intent.
    if (end.kind !== 'done' && this.#record !== undefined && isReachable(member))
      end = yield* this.run(member, removingRecord(this.#record), this.cleanupBy);
    // An intent that stands on a member in service is removed by its next recovery.
    if (end.kind !== 'done') member.recovery.recheckIntents(this.group.port.now());
    return end.kind === 'done';
  }

  /** Notes on members which others missed the change; returns the members that have the note, all if none is needed. */
  *#noteMissed(members: readonly Member[], missed: readonly string[]): Task<readonly Member[]> {
    if (missed.length === 0 || this.#record === undefined) return members;
    return yield* writeJournal(this, members, { ...this.#record, kind: 'journal', missed });
  }

  refusalError({ code, record }: MemberJobEnd & { readonly kind: 'refused' }): TokenError {
    return new TokenError(code, record.function, '', this.records, record.member);
  }

  failure(code: number, explanation: string): TokenError {
    return new TokenError(code, this.functionName, explanation, this.records);
  }

  /** True if a recovery may finish the change, whatever this process does: it sets or destroys, and its intent stands. */
  get mayBeFinished(): boolean {
    return this.#intent !== undefined && this.#record?.what !== 'create';
  }

  /** Returns true if the caller that gives up must hear the outcome: the change is decided, or may be finished. */
  deferAbort(): boolean {
    if (this.committed === undefined && !this.isIrrevocable && !this.mayBeFinished) return false;
    this.isUnwanted = true;
    this.moved.fire();
    return true;
  }

  /** Makes the error of a change that may or may not have happened. */
  unknownOutcome(explanation: string): UnknownOutcomeError {
    const handles = (this.#record?.notes ?? []).map(({ handle }) => handle);
    return new UnknownOutcomeError(this.functionName, explanation, this.records, this.operation, handles);
  }

  /** Marks the change as decided; a caller whose deadline passes gets this value. */
  markCommitted(value: unknown): void {
    this.committed = { value };
    this.group.outcomes.note(this.operation, 'done');
    this.isIrrevocable = false;
    this.moved.fire();
  }
}
