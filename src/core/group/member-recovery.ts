import { backoff } from '../base/backoff.js';
import type { HeldClaim } from '../coordination/coordinator.js';
import type { ChangeRecord } from '../records/record.js';

/** Longest time until the first further try at changes that failed (ms); later ones come less and less often. */
const RETRY_FIRST = 10_000;
/** Longest time between two further tries (ms). */
const RETRY_MOST = 600_000;

/** Recovery of a member: the work to do before it serves, and the records that its token is known to have. */
export class MemberRecovery {
  /** True if the member has to recover before it serves: calls may have left objects there, or it missed a change. */
  isNeeded: boolean = false;
  /** Notes of all processes that the member lacked changes when its recovery began (see Coordinator.missedBy). */
  notes: readonly string[] = [];
  /** True if a member of the group was away during the recovery, so that its records were not read. */
  hasUnheard: boolean = false;
  /** Number of failed tries at each missed change, by operation. */
  readonly failedChanges: Map<string, number> = new Map<string, number>();
  /** Creations that failed at every try, by the ids of their changes (see changeIdOf). */
  readonly givenUp: Map<string, ChangeRecord> = new Map<string, ChangeRecord>();
  /** Time of the next look for intents whose writers have gone meanwhile (ms of the port's clock). */
  recheckIntentsAt: number = Number.POSITIVE_INFINITY;
  /** True if the token has the group record. */
  isOfGroup: boolean = false;
  /** Revision of the group record on the token; -1 if there is none. */
  revision: number = -1;
  /** Reason for serving as stale; undefined if the member is in step. */
  staleFor: string | undefined;
  /** Number of tries to copy all objects to a new member. */
  fillAttempts: number = 0;
  /** Number of failed comparisons with another member in a row. */
  failedComparisons: number = 0;
  /** True if an operator wants the next try to join now. */
  mustRetryNow: boolean = false;
  /** True if the member is to restart on a fresh host. */
  mustRestartHost: boolean = false;
  /** Time of the next try at the changes that failed (ms of the port's clock). */
  retryAt: number = Number.POSITIVE_INFINITY;
  /** Number of recoveries in a row after which changes were left that failed. */
  #incomplete = 0;
  #claim: HeldClaim | undefined;

  /** Has the member recover before it serves. */
  require(): void {
    this.isNeeded = true;
  }

  /** Begins a recovery; changes that are missed from here on need another one. `notes` tell of those before. */
  begin(notes: readonly string[]): void {
    this.isNeeded = false;
    this.notes = notes;
    this.recheckIntentsAt = Number.POSITIVE_INFINITY;
  }

  /** Notes whether the records of all members were read. */
  noteHeard(hasHeardAll: boolean): void {
    this.hasUnheard = !hasHeardAll;
  }

  /** Sets the next look for abandoned intents, unless one comes earlier. */
  recheckIntents(at: number): void {
    this.recheckIntentsAt = Math.min(this.recheckIntentsAt, at);
  }

  /** Cancels the look for abandoned intents. */
  forgetRecheck(): void {
    this.recheckIntentsAt = Number.POSITIVE_INFINITY;
  }

  /** Counts a failed try at a change; returns the number of tries. */
  countFailure(operation: string): number {
    const tries = (this.failedChanges.get(operation) ?? 0) + 1;
    this.failedChanges.set(operation, tries);
    return tries;
  }

  /** Forgets the failed tries at a change. */
  forgetFailures(operation: string): void {
    this.failedChanges.delete(operation);
    for (const [changeId, each] of this.givenUp) if (each.operation === operation) this.givenUp.delete(changeId);
  }

  /**
   * Sets the time of the next try at the changes that failed, if there are any: a token may have room again, the member
   * that knows the object may be back, or another process may have made the change. `random` is from 0 to 1.
   */
  scheduleRetry(now: number, random: number): void {
    this.#incomplete = this.failedChanges.size === 0 ? 0 : this.#incomplete + 1;
    this.retryAt =
      this.#incomplete === 0
        ? Number.POSITIVE_INFINITY
        : now + backoff(this.#incomplete, RETRY_FIRST, RETRY_MOST, random);
  }

  /** Returns true once when the time of the next try has come. */
  takeRetry(now: number): boolean {
    if (now < this.retryAt) return false;
    this.retryAt = Number.POSITIVE_INFINITY;
    return true;
  }

  /** Notes a creation that failed at every try: the member serves without it unless a comparison shows no difference. */
  giveUp(changeId: string, record: ChangeRecord): void {
    this.givenUp.set(changeId, record);
  }

  /** Sets whether the token has the group record. */
  setOfGroup(isOfGroup: boolean): void {
    this.isOfGroup = isOfGroup;
  }

  /** Notes the revision that was read or written; undefined if the token has no group record. */
  noteRevision(revision: number | undefined): void {
    this.revision = revision ?? -1;
  }

  /** Notes the reason for serving as stale; undefined if the member is in step. */
  noteStale(reason: string | undefined): void {
    this.staleFor = reason;
  }

  /** Counts a try to copy all objects to a new member; returns the number of tries. */
  countFill(): number {
    this.fillAttempts += 1;
    return this.fillAttempts;
  }

  /** Notes a comparison with another member; returns the number of failures in a row. */
  countComparison(succeeded: boolean): number {
    this.failedComparisons = succeeded ? 0 : this.failedComparisons + 1;
    return this.failedComparisons;
  }

  /** Claim of this process on the recovery; undefined without it. */
  get claim(): HeldClaim | undefined {
    return this.#claim?.isHeld === true ? this.#claim : undefined;
  }

  /** Keeps a claim on the recovery. */
  keepClaim(claim: HeldClaim | undefined): void {
    this.#claim = claim;
  }

  /** Releases the claim, if this process has it. */
  releaseClaim(): void {
    this.#claim?.release();
    this.#claim = undefined;
  }

  /** Has the next try to join begin now. */
  retryNow(): void {
    this.mustRetryNow = true;
  }

  /** Has the member restart on a fresh host. */
  restartHost(): void {
    this.mustRestartHost = true;
  }

  /** Notes that a fresh host has started. */
  noteHostStarted(): void {
    this.mustRestartHost = false;
  }

  /** Has the next try to join wait for its time. */
  noteRetried(): void {
    this.mustRetryNow = false;
  }
}
