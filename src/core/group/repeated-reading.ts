import { FOREVER, type Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Connection } from './connection.js';
import { type Failure, isFailure } from './job-outcome.js';

/** Runs a reading of several jobs. Runs it once more, from the start, if session or login were lost meanwhile. */
export function* retryAfterRenewal<T>(
  connection: Connection,
  read: () => Task<T | Failure>,
  deadline: number = FOREVER,
): Task<T | Failure> {
  const { epoch } = connection;
  const first = yield* read();
  if (!isFailure(first)) return first;
  const hasChanged = first.kind === 'withdrawn' && connection.epoch !== epoch && connection.end === undefined;
  const renewal = hasChanged ? connection.renewing : connection.renewAfter(first);
  if (renewal === undefined && !hasChanged) return first;
  if (renewal?.completed === false) yield* race([renewal], deadline);
  return renewal?.completed === false || renewal?.failure !== undefined ? first : yield* read();
}
