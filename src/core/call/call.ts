import { CKR } from '../../spec/codes.js';
import { TokenError } from '../base/error.js';
import type { AttemptRecord } from '../base/event.js';
import type { Task } from '../base/task.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { labelFor, type Operation } from '../jobs/operation.js';
import { Attempt, type AttemptEnd, codeOf, verdictOf } from './attempt.js';
import { judge } from './judge.js';
import { rereadAliases } from './lookup.js';
import { runInQuarantine } from './quarantine.js';
import { route } from './routing.js';

/** As many attempts are kept as evidence. */
const MOST_RECORDS = 32;
/** A job that so many hosts ended with is run once more, alone. */
const QUARANTINE_AFTER = 2;
/** A caller that waits for each call is given the same member so often in a row. */
const MOST_IN_A_ROW = 32;
/** A job that was given back so often by one that could have run it has failed there. */
const MOST_WITHDRAWALS = 8;
/** How long a member that said it lacks a mechanism is asked last for it (ms). */
const LACKING_LIFETIME = 60_000;

/**
 * One call: route, run, judge. Ends with the operation's result or a TokenError, by the
 * deadline (ms of the port's clock). Failing over never sleeps: it waits only when there is nobody to ask.
 */
export function runCall<T>(group: Group, operation: Operation<T>, deadline: number): Task<T> {
  return new Call(group, operation, deadline).run();
}

const NO_ATTEMPTS: readonly Attempt[] = [];
const hasEnded = ({ completed }: Attempt): boolean => completed;
const isLate = ({ late }: Attempt): boolean => late;

class Call<T> {
  private readonly group: Group;
  private readonly operation: Operation<T>;
  private readonly deadline: number;
  private startedAt: number;
  private attempts: readonly Attempt[];
  private readonly records: AttemptRecord[];
  /** The attempts that failed, by member; see `#isExcluded` for how long they count. */
  private failed: Map<Member, { readonly attempt: Attempt; readonly moves: number }> | undefined;
  private ambiguous: Attempt | undefined;
  /** The last failure that had a code. */
  private last: { readonly code: number; readonly function: string; readonly member: string } | undefined;
  private charges: number;
  private withdrawals: number;
  private askedAgain: boolean;
  private lookedAgain: boolean;

  constructor(group: Group, operation: Operation<T>, deadline: number) {
    this.group = group;
    this.operation = operation;
    this.deadline = deadline;
    this.startedAt = 0;
    this.attempts = NO_ATTEMPTS;
    this.records = [];
    this.failed = undefined;
    this.ambiguous = undefined;
    this.last = undefined;
    this.charges = 0;
    this.withdrawals = 0;
    this.askedAgain = false;
    this.lookedAgain = false;
  }

  *run(): Task<T> {
    const { group } = this;
    group.counters.calls += 1;
    group.hedges.earn();
    this.startedAt = group.port.now();
    try {
      for (;;) {
        if (this.#wantsAttempt()) this.#startAttempt();
        if (this.attempts.length === 0) {
          yield* this.#withNobody();
          continue;
        }
        if (group.port.now() >= this.deadline) throw this.#outOfTime();
        const signals = this.attempts.every(isLate) ? [...this.attempts, group.changed] : this.attempts;
        yield { signals, until: this.deadline };
        const done = this.attempts.find(hasEnded);
        if (done === undefined) continue;
        this.attempts = this.attempts.filter((attempt) => attempt !== done);
        const result = this.#harvest(done);
        if (result === 'quarantine') return yield* this.#quarantine();
        if (result !== undefined) return result.value;
      }
    } finally {
      for (const attempt of this.attempts) attempt.cancel();
    }
  }

  /** With nobody to ask: finds somebody, waits for a change, or throws where waiting cannot help. */
  *#withNobody(): Task<void> {
    if (this.#mayAskAgain()) return;
    if (this.#mayHaveBeenRenamed()) {
      yield* this.#lookAgain();
      return;
    }
    const pointless = this.#pointless();
    if (pointless !== undefined) throw pointless;
    const { port, changed } = this.group;
    if (port.now() >= this.deadline) throw this.#outOfTime();
    yield { signals: [changed], until: Math.min(this.deadline, this.#idleSince()) };
    // Those who failed get another chance once something has changed.
    this.failed?.clear();
  }

  /** The first attempt; or a further one, when all that are out are late and there is a reason to. */
  #wantsAttempt(): boolean {
    if (this.attempts.length === 0) return true;
    if (this.operation.aspect !== 'pure' || !this.attempts.every((attempt) => attempt.late)) return false;
    if (this.attempts.every(({ member }) => !member.isActive)) return true;
    return this.group.policy.hedge && this.#nextMember() !== undefined && this.group.hedges.take();
  }

  #nextMember(): Member | undefined {
    const { policy, port, rotation, lastAsked: warm, askedInARow: warmth, isWaitedFor } = this.group;
    const { objects } = this.operation;
    const request = {
      objects,
      ability: this.#ability,
      now: port.now(),
      balance: policy.balance,
      random: () => port.random(),
      turn: rotation,
      warm: isWaitedFor && warmth < MOST_IN_A_ROW ? warm : undefined,
    };
    return route(this.#candidates, request, (member) => this.#isExcluded(member));
  }

  /** The members that may do it. */
  get #candidates(): readonly Member[] {
    const { only } = this.operation;
    return only === undefined ? this.group.members : [only];
  }

  #isExcluded(member: Member): boolean {
    if (this.attempts.some((attempt) => attempt.member === member && attempt.connection === member.connection))
      return true;
    const failed = this.failed?.get(member);
    if (failed === undefined || failed.attempt.connection !== member.connection) return false;
    // A change of state since then is a new chance; for what hung on another member, any member's change.
    return failed.moves === (failed.attempt.end?.kind === 'deferred' ? this.group.moves : member.moves);
  }

  #exclude(attempt: Attempt): void {
    const { member } = attempt;
    // For what hung on another member, a change since the attempt began may have been the one that helps.
    const moves = attempt.end?.kind === 'deferred' ? attempt.groupMoves : member.moves;
    this.failed ??= new Map();
    this.failed.set(member, { attempt, moves });
  }

  #startAttempt(): void {
    const member = this.#nextMember();
    const connection = member?.connection;
    if (member === undefined || connection === undefined) return;
    this.group.rotation += 1;
    this.group.askedInARow = member === this.group.lastAsked ? (this.group.askedInARow % MOST_IN_A_ROW) + 1 : 1;
    this.group.lastAsked = member;
    if (this.attempts.length > 0) this.group.counters.hedged += 1;
    const attempt = new Attempt(member, connection, this.group).start(this.operation, this.deadline);
    this.attempts = this.attempts.length === 0 ? [attempt] : [...this.attempts, attempt];
  }

  /** What an attempt that has ended means: the result, or what is to be done next. */
  #harvest(attempt: Attempt): { readonly value: T } | 'quarantine' | undefined {
    const end: AttemptEnd = attempt.end ?? { kind: 'withdrawn' };
    const ambiguousCode = this.#isWitness(attempt.member) ? codeOf(this.ambiguous?.end) : undefined;
    const decision = judge(end, { ambiguousCode, aspect: this.operation.aspect });
    if (decision.kind === 'return' && end.kind === 'ok')
      return { value: this.#succeed(attempt, this.operation.read(end.reply, attempt)) };
    this.#record(attempt, end);
    if (end.kind === 'code' && end.function === 'X_LogInAgain' && end.verdict === 'credential')
      attempt.member.login.refuseContext(end.code);
    if (decision.kind === 'throw') throw this.#failure(end);
    if (decision.kind !== 'next') return undefined;
    this.#blame(attempt, decision.blame);
    if (end.kind === 'withdrawn') this.withdrawals += 1;
    // Who is busy is left alone for a moment by routing, and where nothing was run nothing has failed.
    const notRun =
      end.kind === 'withdrawn' && attempt.connection.end === undefined && this.withdrawals < MOST_WITHDRAWALS;
    if (decision.blame !== 'busy' && !notRun) this.#exclude(attempt);
    if (end.kind === 'code' && end.verdict === 'ambiguous') this.ambiguous = attempt;
    if (decision.charge) this.charges += 1;
    if (this.charges >= QUARANTINE_AFTER && this.operation.aspect === 'pure') return 'quarantine';
    return undefined;
  }

  #blame({ member, connection, record }: Attempt, blame: 'none' | 'suspect' | 'busy' | 'lacks'): void {
    if (blame === 'suspect') member.suspect(connection, `${record.function} answered ${record.outcome}`);
    if (blame === 'busy') member.backOff();
    if (blame === 'lacks') member.lacking.set(this.#ability, this.group.port.now() + LACKING_LIFETIME);
  }

  *#quarantine(): Task<T> {
    for (const attempt of this.attempts) attempt.cancel();
    this.attempts = NO_ATTEMPTS;
    this.group.counters.quarantined += 1;
    const quarantined = yield* runInQuarantine(this.group, this.operation, this.deadline);
    const { attempt } = quarantined;
    const end = attempt?.end;
    if (attempt !== undefined && end?.kind === 'ok')
      return this.#succeed(attempt, this.operation.read(end.reply, attempt));
    if (attempt !== undefined) this.records.push(this.#named(attempt.record));
    if (end?.kind === 'code') throw this.#failure(end);
    const alone =
      quarantined.attempt === undefined
        ? `no host could be had to run it alone: ${quarantined.reason}`
        : 'it was run once more alone and failed there too';
    throw this.#error(CKR.functionFailed, this.operation.function, `the request ended every host it met; ${alone}`);
  }

  #succeed(attempt: Attempt, value: T): T {
    // Another member did what this one could not: so it was not the request.
    if (this.ambiguous !== undefined && this.ambiguous.member !== attempt.member) {
      const { member, connection, record } = this.ambiguous;
      member.suspect(connection, `${record.function} answered ${record.outcome}, and another member succeeded`);
    }
    // Those that are still out, on members that have been found in trouble meanwhile.
    for (const silent of this.attempts) if (!silent.member.isActive) this.records.push(this.#named(silent.record));
    if (this.records.length > 0) {
      this.group.counters.failovers += 1;
      this.group.emit({
        type: 'failover',
        function: this.operation.function,
        attempts: [...this.records],
        member: attempt.member.name,
        duration: this.group.port.now() - this.startedAt,
      });
    }
    return value;
  }

  #record(attempt: Attempt, end: AttemptEnd): void {
    const { record } = attempt;
    if (end.kind === 'withdrawn') return;
    if (this.records.length === MOST_RECORDS) this.records.shift();
    this.records.push(this.#named(record));
    if (end.kind === 'code') this.last = { code: end.code, function: end.function, member: attempt.member.name };
  }

  #named(record: AttemptRecord): AttemptRecord {
    return record.function === '' ? { ...record, function: this.operation.function } : record;
  }

  /** Whether the member's answer, beside an ambiguous one, decides: another member's does, or one asked again. */
  #isWitness(member: Member): boolean {
    return this.askedAgain || this.ambiguous?.member !== member;
  }

  /** With nobody else to ask, a member whose answer was ambiguous is asked once more. */
  #mayAskAgain(): boolean {
    const ambiguous = this.ambiguous;
    if (ambiguous === undefined || this.askedAgain || this.#idleSince() < this.deadline) return false;
    if (
      this.failed?.get(ambiguous.member)?.attempt !== ambiguous ||
      ambiguous.connection !== ambiguous.member.connection
    )
      return false;
    // Who could serve, but for a proof that was not to be had just now, will be asked first.
    for (const { attempt } of this.failed?.values() ?? []) if (attempt.end?.kind === 'deferred') return false;
    this.askedAgain = true;
    this.failed?.delete(ambiguous.member);
    return true;
  }

  get #ability(): string {
    return labelFor(this.operation.function, this.operation.mechanism);
  }

  /** With nobody to ask: the error where waiting cannot help. */
  #pointless(): TokenError | undefined {
    const { isHopeless } = this.group;
    if (isHopeless) return this.#error(CKR.deviceRemoved, this.operation.function, this.group.describeMembers());
    const candidates = this.#candidates;
    const serving = candidates.filter((member) => member.isServing);
    const agreed =
      serving.length > 0 && serving.every((member) => verdictOf(this.failed?.get(member)?.attempt.end) === 'ambiguous');
    if (agreed && this.last !== undefined) return this.#error(this.last.code, this.last.function, '');
    const reasons = candidates.map((member) => this.#lastingReason(member));
    if (reasons.includes(undefined)) return undefined;
    if (reasons.includes('mechanism')) {
      return this.#error(
        this.last?.code ?? CKR.mechanismInvalid,
        this.operation.function,
        candidates.length > 1 ? 'no member has the mechanism' : `${candidates[0]?.name} lacks the mechanism`,
      );
    }
    const explanation = reasons.includes('object') ? '' : 'no member holds the object any more';
    return this.#error(CKR.keyHandleInvalid, this.operation.function, explanation);
  }

  /** What nobody in service has under the name that this process knows may go by another one since, which aliases tell. */
  #mayHaveBeenRenamed(): boolean {
    const { ledger, port } = this.group;
    if (this.lookedAgain || ledger.record === undefined || port.now() >= this.deadline) return false;
    if (!this.operation.objects.some(({ session, handle }) => session === undefined && handle !== 0)) return false;
    const serving = this.#candidates.filter((member) => member.isServing);
    const reasons = serving.map((member) => this.#lastingReason(member));
    return reasons.length > 0 && reasons.every((reason) => reason !== undefined && reason !== 'mechanism');
  }

  *#lookAgain(): Task<void> {
    this.lookedAgain = true;
    yield* rereadAliases(this.group, this.operation.objects, this.deadline);
    this.failed?.clear();
  }

  /** Why a member cannot do this call whatever happens next; undefined where it may yet. */
  #lastingReason(member: Member): 'mechanism' | 'absent' | 'misaligned' | 'object' | undefined {
    const { objects } = this.operation;
    if (verdictOf(this.failed?.get(member)?.attempt.end) === 'mechanism') return 'mechanism';
    // One that is away said so when it was there.
    if (!member.isServing && (member.lacking.get(this.#ability) ?? 0) > this.group.port.now()) return 'mechanism';
    if (!member.isServing || objects.length === 0) return undefined;
    for (const object of objects) {
      const replica = member.connection?.replicas.get(object)?.kind;
      if (replica === 'absent' || replica === 'misaligned') return replica;
    }
    return verdictOf(this.failed?.get(member)?.attempt.end) === 'object' ? 'object' : undefined;
  }

  /** When the first member that said it is busy may be asked again. */
  #idleSince(): number {
    const now = this.group.port.now();
    const times = this.#candidates.map(({ busyUntil }) => busyUntil).filter((time) => time > now);
    return Math.min(...times, this.deadline);
  }

  #failure(end: AttemptEnd): unknown {
    if (end.kind === 'fault') return end.error;
    if (end.kind === 'code') return this.#error(end.code, end.function, '');
    return this.#error(
      CKR.functionFailed,
      this.operation.function,
      'the outcome is unknown, and it may not be run again',
    );
  }

  #outOfTime(): TokenError {
    for (const attempt of this.attempts) this.records.push(this.#named(attempt.record));
    const budget = (this.deadline - this.startedAt).toFixed(0);
    if (this.records.length === 0) {
      return this.#error(
        CKR.deviceRemoved,
        this.operation.function,
        `no member could be reached within ${budget} ms: ${this.group.describeMembers()}`,
      );
    }
    const code = this.last?.code ?? CKR.deviceError;
    return this.#error(
      code,
      this.operation.function,
      `no member answered within ${budget} ms: ${this.group.describeMembers()}`,
    );
  }

  #error(code: number, functionName: string, explanation: string): TokenError {
    return new TokenError(code, functionName, explanation, this.records, this.last?.member);
  }
}
