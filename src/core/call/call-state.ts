import type { AttemptRecord } from '../base/event.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { labelFor, type Operation } from '../jobs/operation.js';
import type { Attempt } from './attempt.js';
import type { FailedAttempts } from './failed-attempts.js';

/** State of a call, as far as its reasons and errors depend on the state. */
export interface CallState {
  readonly group: Group;
  readonly operation: Operation<unknown>;
  /** Deadline of the call (ms of the port's clock). */
  readonly deadline: number;
  /** Start of the call (ms of the port's clock). */
  readonly startedAt: number;
  /** Attempts that are still out. */
  readonly attempts: readonly Attempt[];
  /** Evidence of the attempts that ended without success. */
  readonly records: AttemptRecord[];
  /** Failed attempts; undefined before the first failure. */
  readonly failed: FailedAttempts | undefined;
  /** Last failure that had a code. */
  readonly last: { readonly code: number; readonly function: string; readonly member: string } | undefined;
}

/** Returns the members that may do a call. */
export function candidatesOf({ group, operation: { only, except } }: CallState): readonly Member[] {
  if (only !== undefined) return [only];
  return except === undefined ? group.members : group.members.filter((member) => member !== except);
}

/** Returns the ability that a call asks of a member: its function with its mechanism. */
export function abilityFor({ operation }: CallState): string {
  return labelFor(operation.function, operation.mechanism);
}

/**
 * Returns the time at which the first busy member may be asked again, at most the deadline (ms of the port's clock).
 */
export function firstIdleTime(call: CallState): number {
  const now = call.group.port.now();
  const times = candidatesOf(call)
    .map(({ busyUntil }) => busyUntil)
    .filter((time) => time > now);
  return Math.min(...times, call.deadline);
}
