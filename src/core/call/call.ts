import type { AttemptRecord } from '../base/event.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { Operation } from '../jobs/operation.js';
import { Attempt } from './attempt.js';
import { type AttemptEnd, codeOf, nameRecord } from './attempt-end.js';
import { failureError, pointlessError, quarantineError, timeoutError } from './call-error.js';
import { abilityFor, type CallState, candidatesOf, firstIdleTime } from './call-state.js';
import { FailedAttempts } from './failed-attempts.js';
import { judge } from './judge.js';
import { mayHaveBeenRenamed } from './lasting-reason.js';
import { rereadAliases } from './lookup.js';
import { runInQuarantine } from './quarantine.js';
import { route } from './routing.js';

/** Maximum number of attempts that a call keeps as evidence. */
const MOST_RECORDS = 32;
/** Number of hosts that a pure call may end before the call runs once more in quarantine (Rule 8). */
const QUARANTINE_AFTER = 2;
/** Maximum number of calls in a row that one member gets from a caller that waits for each call. */
const MOST_IN_A_ROW = 32;
/** Number of withdrawals after which a withdrawn attempt counts as failed. */
const MOST_WITHDRAWALS = 8;
/** Time for which routing asks a member without a mechanism last for that mechanism (ms). */
const LACKING_LIFETIME = 60_000;

/**
 * Runs a call: routes it to a member, runs an attempt there and judges how the attempt ended. Returns the operation's
 * result or throws a TokenError, at the latest at the deadline (ms of the port's clock). Failing over never sleeps
 * (Rule 7): the call waits only if no member can be asked.
 */
export function runCall<T>(group: Group, operation: Operation<T>, deadline: number): Task<T> {
  return new Call(group, operation, deadline).run();
}

const NO_ATTEMPTS: readonly Attempt[] = [];
const hasEnded = ({ completed }: Attempt): boolean => completed;
const isLate = ({ late }: Attempt): boolean => late;
const isDoubtful = ({ late, member }: Attempt): boolean => late || !member.isServing;

class Call<T> implements CallState {
  readonly group: Group;
  readonly operation: Operation<T>;
  readonly deadline: number;
  startedAt: number;
  attempts: readonly Attempt[];
  readonly records: AttemptRecord[];
  failed: FailedAttempts | undefined;
  last: CallState['last'];
  /** Attempt whose code does not tell if the request or the member is at fault. */
  private ambiguous: Attempt | undefined;
  /** Number of hosts that the job may have ended. */
  private charges: number;
  private withdrawals: number;
  /** True if a member with an ambiguous answer was asked a second time. */
  private askedAgain: boolean;
  /** True if the alias records were read again. */
  private hasRereadAliases: boolean;

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
    this.hasRereadAliases = false;
  }

  *run(): Task<T> {
    const { group } = this;
    group.counters.calls += 1;
    group.hedges.earn();
    this.startedAt = group.port.now();
    try {
      for (;;) {
        if (this.wantsAttempt()) this.startAttempt();
        if (this.attempts.length === 0) {
          yield* this.waitForMember();
          continue;
        }
        if (group.port.now() >= this.deadline) throw timeoutError(this);
        const signals = this.attempts.every(isDoubtful) ? [...this.attempts, group.changed] : this.attempts;
        // Raw yield instead of race(): every call waits here, and a generator for each wait would cost time.
        yield { signals, until: this.deadline };
        const done = this.attempts.find(hasEnded);
        if (done === undefined) continue;
        this.attempts = this.attempts.filter((attempt) => attempt !== done);
        const result = this.harvest(done);
        if (result === 'quarantine') return yield* this.runAlone();
        if (result !== undefined) return result.value;
      }
    } finally {
      for (const attempt of this.attempts) attempt.cancel();
    }
  }

  /** Makes a member available if no member can be asked: waits for a change, or throws if waiting cannot help. */
  private *waitForMember(): Task<void> {
    if (this.mayAskAgain()) return;
    if (!this.hasRereadAliases && mayHaveBeenRenamed(this)) {
      this.hasRereadAliases = true;
      yield* rereadAliases(this.group, this.operation.objects, this.deadline);
      this.failed?.clear();
      return;
    }
    const pointless = pointlessError(this);
    if (pointless !== undefined) throw pointless;
    const { port, changed } = this.group;
    if (port.now() >= this.deadline) throw timeoutError(this);
    yield* race([changed], Math.min(this.deadline, firstIdleTime(this)));
    // Members that failed get another chance after a change.
    this.failed?.clear();
  }

  /** Tells whether to start an attempt: the first, or a further one if all that are out are late or on a last stand. */
  private wantsAttempt(): boolean {
    if (this.attempts.length === 0) return true;
    if (this.operation.aspect !== 'pure' || !this.attempts.every(isDoubtful)) return false;
    // A member that recovers was asked only while no other one served; if it hangs, nobody notices.
    if (!this.attempts.every(isLate)) return this.nextMember()?.isServing === true;
    if (this.attempts.every(({ member }) => !member.isActive)) return true;
    return this.group.policy.hedge && this.nextMember() !== undefined && this.group.hedges.take();
  }

  private nextMember(): Member | undefined {
    const { policy, port, rotation, lastAsked, askedInARow, isWaitedFor } = this.group;
    const request = {
      objects: this.operation.objects,
      ability: abilityFor(this),
      now: port.now(),
      balance: policy.balance,
      random: () => port.random(),
      rotation,
      lastAsked: isWaitedFor && askedInARow < MOST_IN_A_ROW ? lastAsked : undefined,
    };
    return route(candidatesOf(this), request, (member) => this.isExcluded(member));
  }

  private isExcluded(member: Member): boolean {
    if (this.attempts.some((attempt) => attempt.member === member && attempt.connection === member.connection))
      return true;
    return this.failed?.excludes(member, this.group) === true;
  }

  private startAttempt(): void {
    const member = this.nextMember();
    const connection = member?.connection;
    if (member === undefined || connection === undefined) return;
    this.group.rotation += 1;
    this.group.askedInARow = member === this.group.lastAsked ? (this.group.askedInARow % MOST_IN_A_ROW) + 1 : 1;
    this.group.lastAsked = member;
    if (this.attempts.length > 0) this.group.counters.hedged += 1;
    const attempt = new Attempt(member, connection, this.group).start(this.operation, this.deadline);
    this.attempts = this.attempts.length === 0 ? [attempt] : [...this.attempts, attempt];
  }

  /** Takes in an attempt that has ended. Returns the result or the next step; undefined to go on with other members. */
  private harvest(attempt: Attempt): { readonly value: T } | 'quarantine' | undefined {
    const end: AttemptEnd = attempt.end ?? { kind: 'withdrawn' };
    const ambiguousCode = this.isWitness(attempt.member) ? codeOf(this.ambiguous?.end) : undefined;
    const decision = judge(end, { ambiguousCode, aspect: this.operation.aspect });
    if (decision.kind === 'return' && end.kind === 'ok')
      return { value: this.succeed(attempt, this.operation.read(end.reply, attempt)) };
    this.record(attempt, end);
    if (end.kind === 'code' && end.function === 'X_LogInAgain' && end.verdict === 'credential')
      attempt.member.login.refuseContext(end.code);
    if (decision.kind === 'throw') throw failureError(this, end);
    if (decision.kind !== 'next') return undefined;
    this.blame(attempt, decision.blame);
    if (end.kind === 'withdrawn') this.withdrawals += 1;
    // Routing avoids a busy member for a moment, and a job that did not run has not failed: both stay candidates.
    const notRun =
      end.kind === 'withdrawn' && attempt.connection.end === undefined && this.withdrawals < MOST_WITHDRAWALS;
    if (decision.blame !== 'busy' && !notRun) {
      this.failed ??= new FailedAttempts();
      this.failed.add(attempt);
    }
    if (end.kind === 'code' && end.verdict === 'ambiguous') this.ambiguous = attempt;
    if (decision.charge) this.charges += 1;
    if (this.charges >= QUARANTINE_AFTER && this.operation.aspect === 'pure') return 'quarantine';
    return undefined;
  }

  private blame({ member, connection, record }: Attempt, blame: 'none' | 'suspect' | 'busy' | 'lacks'): void {
    if (blame === 'suspect') member.suspect(connection, `${record.function} answered ${record.outcome}`);
    if (blame === 'busy') member.backOff();
    if (blame === 'lacks') member.lacking.set(abilityFor(this), this.group.port.now() + LACKING_LIFETIME);
  }

  /** Runs the call once more, alone in a spare host (Rule 8). */
  private *runAlone(): Task<T> {
    for (const attempt of this.attempts) attempt.cancel();
    this.attempts = NO_ATTEMPTS;
    this.group.counters.quarantined += 1;
    const quarantined = yield* runInQuarantine(this.group, this.operation, this.deadline);
    const { attempt } = quarantined;
    const end = attempt?.end;
    if (attempt !== undefined && end?.kind === 'ok')
      return this.succeed(attempt, this.operation.read(end.reply, attempt));
    if (attempt !== undefined) this.records.push(nameRecord(attempt.record, this.operation.function));
    if (end?.kind === 'code') throw failureError(this, end);
    throw quarantineError(this, quarantined);
  }

  private succeed(attempt: Attempt, value: T): T {
    // If another member succeeds, the ambiguous failure was the member's fault, not the request's.
    if (this.ambiguous !== undefined && this.ambiguous.member !== attempt.member) {
      const { member, connection, record } = this.ambiguous;
      member.suspect(connection, `${record.function} answered ${record.outcome}, and another member succeeded`);
    }
    // Attempts still out on members that have left service meanwhile are evidence of a failover too.
    for (const silent of this.attempts)
      if (!silent.member.isActive) this.records.push(nameRecord(silent.record, this.operation.function));
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

  private record(attempt: Attempt, end: AttemptEnd): void {
    const { record } = attempt;
    if (end.kind === 'withdrawn') return;
    if (this.records.length === MOST_RECORDS) this.records.shift();
    this.records.push(nameRecord(record, this.operation.function));
    if (end.kind === 'code') this.last = { code: end.code, function: end.function, member: attempt.member.name };
  }

  /** Tells whether a member's answer decides an ambiguous failure: the answer of another member, or a second answer. */
  private isWitness(member: Member): boolean {
    return this.askedAgain || this.ambiguous?.member !== member;
  }

  /**
   * Returns true if a member with an ambiguous answer is to be asked a second time: no other member can be asked.
   */
  private mayAskAgain(): boolean {
    const { ambiguous } = this;
    if (ambiguous === undefined || this.askedAgain || firstIdleTime(this) < this.deadline) return false;
    if (this.failed?.attemptOn(ambiguous.member) !== ambiguous || ambiguous.connection !== ambiguous.member.connection)
      return false;
    // A member that only lacked a proof is asked first.
    if (this.failed.hasDeferred) return false;
    this.askedAgain = true;
    this.failed.delete(ambiguous.member);
    return true;
  }
}
