import type { Attribute } from '../../spec/attribute.js';
import { CKR } from '../../spec/codes.js';
import { type JobReply, resultOf, step } from '../../spec/job.js';
import { TokenError } from '../base/error.js';
import type { AttemptRecord } from '../base/event.js';
import type { Task } from '../base/task.js';
import { awaitCompletion, race, runTogether } from '../base/waiting.js';
import { rereadAliases } from '../call/lookup.js';
import { isReachable, type MemberJobEnd, runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { JobBuilder } from '../jobs/job-builder.js';
import type { Login, MemberJob } from '../jobs/member-job.js';
import { hex, noteAttributes, noteObject } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import { type ChangeRecord, labelTemplate, reversalOf } from '../records/record.js';

/** What is undone, or noted for others, gets so long after a call's own deadline (ms). */
const SETTLE_WITHIN = 10_000;
/** When all members were lost with the intent, it is tried again after so long (ms). */
const ANNOUNCE_AGAIN = 100;
/** Another host's clock may be so far ahead (ms). */
const CLOCK_SKEW = 30_000;

export type ChangeKind = ChangeRecord['what'];

/** What was written on a member, for undoing it. */
export interface WrittenObjects {
  readonly member: Member;
  readonly login: Login;
  readonly handles: readonly Uint8Array[];
}

/**
 * One replicated call: first an intent on one member, then the work on all of them, then the intent goes. Whoever
 * meets an intent whose writer is gone undoes what it names, unless a journal entry of the same operation says
 * that the call succeeded without the intent's holder.
 */
export class ReplicatedChange {
  /** Names it in records; each intent that may stand somewhere has another one. */
  operation: string;
  readonly startedAt: number;
  /** The caller has left: it is undone, unless it has succeeded already. */
  givenUp: boolean = false;
  readonly records: AttemptRecord[] = [];
  #intent: WrittenObjects | undefined;
  #record: ChangeRecord | undefined;
  /** What the call gives, once there is no way back. */
  committed: { readonly value: unknown } | undefined;

  constructor(
    readonly group: Group,
    readonly functionName: string,
    readonly deadline: number,
  ) {
    this.operation = newOperation(group);
    this.startedAt = group.port.now();
  }

  /** Until when what has been begun is brought to an end. */
  get cleanupBy(): number {
    return Math.max(this.deadline, this.group.port.now()) + SETTLE_WITHIN;
  }

  /** The members that a change goes to: those that serve, and those in reserve. Waits for one until the deadline. */
  *participants(): Task<readonly Member[]> {
    const { group } = this;
    for (;;) {
      const present = group.members.filter(
        (member) => isReachable(member) && (member.isActive || member.state.name === 'standby'),
      );
      if (present.length > 0) return present;
      if (group.isHopeless || group.port.now() >= this.deadline || this.givenUp) {
        throw this.failure(CKR.deviceRemoved, `no member could be reached: ${group.describeMembers()}`);
      }
      yield* race([group.changed], this.deadline);
    }
  }

  /**
   * Writes the intent on the first of the members that takes it; gives those that the change goes on with. One that
   * was lost with the intent has no part in it any more: it may hold the intent, and settles it by what the others say.
   * When all of them are lost with it, nothing else has been done, and it is tried again with who comes back.
   */
  *writeIntent(
    members: readonly Member[],
    what: ChangeKind,
    objects: readonly VirtualObject[],
    changes: readonly Attribute[] = [],
    former: readonly Attribute[] = [],
    before: number | 'unknown' = 0,
  ): Task<readonly Member[]> {
    const { group } = this;
    const { port } = group;
    for (let present = members; ; present = yield* this.participants()) {
      const record: ChangeRecord = {
        kind: 'intent',
        operation: this.operation,
        what,
        notes: objects.map(noteObject),
        alone: before === 0,
        before: before === 'unknown' ? undefined : before,
        changes: noteAttributes(changes),
        former: noteAttributes(former),
        writer: port.writer,
        time: group.nextTimestamp(),
        expires: port.wallNow() + (this.cleanupBy - port.now()) + CLOCK_SKEW,
        missed: [],
      };
      this.#record = record;
      const { left, mayStand } = yield* this.#writeIntentOnOneOf(present, record);
      if (left !== undefined) return left;
      if (mayStand) this.#renew();
      if (this.givenUp || group.isHopeless || port.now() + ANNOUNCE_AGAIN >= this.deadline)
        throw this.failure(CKR.deviceRemoved, `no member took the intent: ${group.describeMembers()}`);
      yield* race([group.changed], port.now() + ANNOUNCE_AGAIN);
    }
  }

  /** Those that the change goes on with; undefined when nobody took the intent, though it may stand somewhere. */
  *#writeIntentOnOneOf(
    members: readonly Member[],
    record: ChangeRecord,
  ): Task<{ readonly left: readonly Member[] | undefined; readonly mayStand: boolean }> {
    const builder = new JobBuilder();
    const at = builder.addRecord(record);
    let left = members;
    let mayStand = false;
    for (const member of members) {
      if (this.givenUp) break;
      const end = yield* this.run(member, { function: this.functionName, objects: [], job: () => builder });
      if (end.kind === 'done') {
        this.#intent = { member, login: end.login, handles: keptBy(end.reply, [at]) };
        return { left, mayStand };
      }
      if (end.kind === 'refused') {
        if (mayStand) this.#renew();
        throw this.refusalError(end);
      }
      left = left.filter((other) => other !== member);
      if (end.kind === 'gone' && end.begun) mayStand = true;
    }
    return { left: undefined, mayStand };
  }

  /** Nothing has been done by the name that it had: whoever holds an intent of that name is told so. */
  #renew(): void {
    const { changes, undoneOperations } = this.group;
    undoneOperations.add(this.operation);
    const isTracked = changes.delete(this.operation);
    this.operation = newOperation(this.group);
    if (isTracked) changes.add(this.operation);
  }

  /** Runs an errand of this change; what kept it from being done is evidence. */
  *run(member: Member, memberJob: MemberJob, deadline: number = this.deadline): Task<MemberJobEnd> {
    const names = memberJob.objects.map(({ identity }) => identity);
    let end = yield* runOnMember(this.group, member, memberJob, deadline);
    if (end.kind === 'lacks' && (yield* this.#haveNewNames(memberJob.objects, names, deadline)))
      end = yield* runOnMember(this.group, member, memberJob, deadline);
    if (end.kind !== 'done') this.records.push(end.record);
    return end;
  }

  /** Another process may have renamed what a member does not have by the name that is known here. */
  *#haveNewNames(objects: readonly VirtualObject[], names: readonly Uint8Array[], deadline: number): Task<boolean> {
    if (objects.every(({ session }) => session !== undefined)) return false;
    try {
      yield* rereadAliases(this.group, objects, deadline);
    } catch (error) {
      // Nobody could be asked just now.
      if (!(error instanceof TokenError)) throw error;
    }
    return objects.some(({ identity }, index) => identity !== names[index]);
  }

  /**
   * Ends a change that all of `done` have: those who missed it are noted on them, then the intent goes. From here
   * on it has happened, whatever becomes of the members.
   */
  *commit(done: readonly Member[]): Task<void> {
    const { group } = this;
    // They catch up on a fresh host, whether they have been lost by now or not.
    for (const member of group.members) if (!done.includes(member)) this.#markForRecovery(member);
    let left = done;
    const intent = this.#intent;
    if (intent !== undefined && left.includes(intent.member)) {
      const noted = yield* this.#note(left, this.#missedBy(left));
      left = noted;
      const removed = left.includes(intent.member) ? yield* this.#removeIntent(intent) : false;
      if (removed) return;
      left = left.filter((member) => member !== intent.member);
    }
    // The intent's holder is gone with it: that the call has succeeded has to stand elsewhere.
    const noted = yield* this.#note(left, this.#missedBy(left));
    if (noted.length > 0) return;
    if (this.givenUp && this.committed !== undefined) {
      // The caller has been told that it has happened, so it has.
      group.committedOperations.add(this.operation);
      return;
    }
    this.committed = undefined;
    group.undoneOperations.add(this.operation);
    const entry = this.#reversal(this.#serials());
    if (entry !== undefined) group.oweReversal(entry);
    // Those too that are back by now: each takes it back when it settles.
    for (const member of done) this.#markForRecovery(member);
    throw this.failure(CKR.functionFailed, 'the last member was lost before it was certain');
  }

  /** Takes back what was written, notes for those that cannot be reached that they have to, and ends the change. */
  *undo(written: readonly WrittenObjects[], doubtful: readonly Member[]): Task<void> {
    const until = this.cleanupBy;
    const { group } = this;
    const left = new Set(doubtful);
    const undone: Member[] = [];
    const ends = yield* runTogether(
      group,
      written.map((each) => this.run(each.member, destroyingHandles(each), until)),
    );
    ends.forEach((end, index) => {
      const member = written[index]?.member;
      if (member === undefined) return;
      if (end.kind === 'done') undone.push(member);
      else left.add(member);
    });
    yield* this.abandon(undone, [...left]);
  }

  /** Ends a change that has not happened: members in doubt are to undo it when they are met again. */
  *abandon(reached: readonly Member[], doubtful: readonly Member[]): Task<void> {
    const serials = doubtful.flatMap(({ serial }) => serial ?? []);
    for (const member of doubtful) this.#markForRecovery(member);
    const entry = this.#reversal(serials);
    if (entry !== undefined && serials.length > 0) {
      // On those too that it had not come to: another process may settle it.
      const untouched = this.group.members.filter(
        (member) => member.isActive && isReachable(member) && !reached.includes(member) && !doubtful.includes(member),
      );
      const noted = yield* this.#write([...reached, ...untouched], entry, this.cleanupBy);
      // With nobody to note it on, this process remembers.
      if (noted.length === 0) this.group.oweReversal(entry);
    }
    const intent = this.#intent;
    if (intent === undefined) return;
    const removed = doubtful.includes(intent.member) ? false : yield* this.#removeIntent(intent);
    // This process knows what has become of it; should it end before that is settled, the intent is undone.
    if (!removed) this.group.undoneOperations.add(this.operation);
  }

  /** What members in doubt have to do so that nothing has happened. */
  #reversal(missed: readonly string[]): ChangeRecord | undefined {
    return this.#record === undefined ? undefined : { ...reversalOf(this.#record), kind: 'journal', missed };
  }

  #markForRecovery(member: Member): void {
    member.recovery.require();
    const { connection } = member;
    if (connection !== undefined) member.suspect(connection, 'it has missed a change');
  }

  *#removeIntent(intent: WrittenObjects): Task<boolean> {
    const end = yield* this.run(intent.member, destroyingHandles(intent), this.cleanupBy);
    if (end.kind === 'done') return true;
    if (this.#record === undefined || !isReachable(intent.member)) return false;
    // Its handle may be void, by a login that was made new.
    const steps = [step('X_Find', labelTemplate(this.#record), 1, []), step('C_DestroyObject', { step: 0 })];
    const again = yield* this.run(
      intent.member,
      { function: 'C_DestroyObject', objects: [], job: () => ({ steps }) },
      this.cleanupBy,
    );
    return again.kind === 'done';
  }

  *#note(members: readonly Member[], missed: readonly string[]): Task<readonly Member[]> {
    if (missed.length === 0 || this.#record === undefined) return members;
    return yield* this.#write(members, this.#journal(this.#record.what, missed), this.cleanupBy);
  }

  *#write(members: readonly Member[], record: ChangeRecord, until: number): Task<readonly Member[]> {
    const builder = new JobBuilder();
    builder.addRecord(record);
    const ends = yield* runTogether(
      this.group,
      members.map((member) =>
        this.run(member, { function: this.functionName, objects: [], job: () => builder }, until),
      ),
    );
    const holders = members.filter((_member, index) => ends[index]?.kind === 'done');
    if (record.kind === 'journal')
      this.group.missed.note(
        record,
        holders.flatMap(({ serial }) => serial ?? []),
      );
    return holders;
  }

  #journal(what: ChangeKind, missed: readonly string[]): ChangeRecord {
    if (this.#record === undefined) throw new Error('a change that was not announced has nothing to note');
    return { ...this.#record, kind: 'journal', what, missed };
  }

  #serials(): readonly string[] {
    return this.group.ledger.record?.members.map(({ serial }) => serial) ?? [];
  }

  #missedBy(done: readonly Member[]): readonly string[] {
    return this.#serials().filter((serial) => !done.some((member) => member.serial === serial));
  }

  /** The error of a member that refused. */
  refusalError(end: MemberJobEnd & { readonly kind: 'refused' }): TokenError {
    return new TokenError(end.code, end.record.function, '', this.records, end.record.member);
  }

  failure(code: number, explanation: string): TokenError {
    return new TokenError(code, this.functionName, explanation, this.records);
  }

  /** From here on there is no way back: a caller whose time ends gets this. */
  markCommitted(value: unknown): void {
    this.committed = { value };
  }
}

function newOperation({ port }: Group): string {
  return hex(port.randomBytes(8));
}

/** Destroys what was written, the last first. */
export function destroyingHandles({ handles, login }: WrittenObjects): MemberJob {
  const steps = [...handles].reverse().map((handle) => step('C_DestroyObject', handle));
  return { function: 'C_DestroyObject', objects: [], job: () => ({ steps }), login };
}

/** The token objects that a script's `keep` and `write` made. */
function keptBy(reply: JobReply, at: readonly number[]): Uint8Array[] {
  return at.map((index) => resultOf(reply, index, 'C_CopyObject'));
}

/**
 * Runs a change to its end, whether its caller stays or not: one that leaves (its time is over, or it was given
 * up) gets its error at once, and what was begun is undone behind it.
 */
export function* carryOut<T>(change: ReplicatedChange, body: Task<T>): Task<T> {
  const { group } = change;
  const running = group.port.start(tracked(change, body));
  group.keepAlive(running);
  try {
    const { port } = group;
    yield* awaitCompletion(port, running, change.deadline);
    // It has happened; what is left to be noted goes on behind it.
    if (!running.completed && change.committed !== undefined) return change.committed.value as T;
    const { ended } = running;
    if (ended?.ok === true) return ended.value;
    if (ended?.ok === false) throw ended.error;
    const where = `no answer from all members in time: ${group.describeMembers()}; it is undone`;
    throw change.failure(change.records.at(-1)?.code ?? CKR.functionFailed, where);
  } finally {
    change.givenUp = true;
  }
}

function* tracked<T>(change: ReplicatedChange, body: Task<T>): Task<T> {
  const { changes } = change.group;
  changes.add(change.operation);
  try {
    return yield* body;
  } finally {
    changes.delete(change.operation);
  }
}
