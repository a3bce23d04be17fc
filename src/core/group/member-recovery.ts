/** What a member has to do before it serves again, and what its token is known to have. */
export class MemberRecovery {
  /** True while calls may have left something there, or it has missed something: it recovers before it serves. */
  isNeeded: boolean = false;
  /** Changes that could not be made good, by operation, with the number of tries. */
  readonly failedChanges: Map<string, number> = new Map<string, number>();
  /** When to look for intents whose writers may still be at work now (ms of the port's clock). */
  recheckIntentsAt: number = Number.POSITIVE_INFINITY;
  /** Whether the token has the group's record. */
  isOfGroup: boolean = false;
  /** Revision of the group record on the token; -1 where there is none. */
  revision: number = -1;
  /** Why the member serves without being known to be in step. */
  staleFor: string | undefined;
  /** Number of tries to copy all keys to it. */
  fillAttempts: number = 0;
  /** Number of comparisons with the others that failed in a row. */
  failedComparisons: number = 0;
  /** Releases this process's claim on the member's recovery. */
  claim: (() => void) | undefined;
  /** True when an operator wants the next try to come back now. */
  mustRetryNow: boolean = false;
  /** True when the member is to come back on a fresh host, with what is known now. */
  mustRestartHost: boolean = false;

  require(): void {
    this.isNeeded = true;
  }

  /** A recovery begins: what is missed from here on is noted anew. */
  begin(): void {
    this.isNeeded = false;
    this.recheckIntentsAt = Number.POSITIVE_INFINITY;
  }

  recheckIntents(at: number): void {
    this.recheckIntentsAt = Math.min(this.recheckIntentsAt, at);
  }

  forgetRecheck(): void {
    this.recheckIntentsAt = Number.POSITIVE_INFINITY;
  }

  /** Counts a failed try at a change; gives the number of tries. */
  countFailure(operation: string): number {
    const tries = (this.failedChanges.get(operation) ?? 0) + 1;
    this.failedChanges.set(operation, tries);
    return tries;
  }

  forgetFailures(operation: string): void {
    this.failedChanges.delete(operation);
  }

  setOfGroup(isOfGroup: boolean): void {
    this.isOfGroup = isOfGroup;
  }

  /** Notes the revision that was read or written; undefined where the token has no record of the group. */
  noteRevision(revision: number | undefined): void {
    this.revision = revision ?? -1;
  }

  /** Notes why the member is stale; undefined where it is not. */
  noteStale(reason: string | undefined): void {
    this.staleFor = reason;
  }

  countFill(): number {
    this.fillAttempts += 1;
    return this.fillAttempts;
  }

  /** Notes a comparison with the others; gives the number of failures in a row. */
  countComparison(succeeded: boolean): number {
    this.failedComparisons = succeeded ? 0 : this.failedComparisons + 1;
    return this.failedComparisons;
  }

  /** Takes a claim unless this process has it already. */
  takeClaim(take: () => (() => void) | undefined): void {
    this.claim ??= take();
  }

  releaseClaim(): void {
    this.claim?.();
    this.claim = undefined;
  }

  retryNow(): void {
    this.mustRetryNow = true;
  }

  restartHost(): void {
    this.mustRestartHost = true;
  }

  /** A host has started with what is known now. */
  noteHostStarted(): void {
    this.mustRestartHost = false;
  }

  /** The next try begins when it is due. */
  noteRetried(): void {
    this.mustRetryNow = false;
  }
}
