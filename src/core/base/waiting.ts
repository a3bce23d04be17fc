import { CKR } from '../../spec/codes.js';
import { TokenError } from './error.js';
import type { Port } from './port.js';
import { FOREVER, type Running, type Signal, type Task } from './task.js';

/** Waits until a time (ms of the port's clock). */
export function* sleepUntil(until: number): Task<void> {
  yield { signals: [], until };
}

/** Waits until one of the signals fires or has completed, at most until a time. */
export function* race(signals: readonly Signal[], until: number = FOREVER): Task<void> {
  yield { signals, until };
}

/** Waits until a predicate holds, at most until a time; returns its last answer. A signal that fires asks it again. */
export function* waitUntil(
  port: Port,
  signals: readonly Signal[],
  holds: () => boolean,
  until: number = FOREVER,
): Task<boolean> {
  while (!holds()) {
    if (port.now() >= until) return false;
    yield { signals, until };
  }
  return true;
}

/** Waits until a signal has completed, at most until a time. Returns true if it has. */
export function* awaitCompletion(port: Port, signal: Signal, until: number = FOREVER): Task<boolean> {
  while (!signal.completed) {
    if (port.now() >= until) return false;
    yield { signals: [signal], until };
  }
  return true;
}

/** Returns the run that several callers wait for, or starts another one. A run may end before its start returns. */
export function joinOrStart<T>(current: Running<T> | undefined, start: () => Running<T>): Running<T> {
  return current === undefined || current.completed ? start() : current;
}

/** Waits for a started task and returns its value. Throws its error, or CKR_FUNCTION_CANCELED if it was cancelled. */
export function* awaitResult<T>(running: Running<T>): Task<T> {
  while (!running.completed) yield { signals: [running], until: FOREVER };
  const { ended } = running;
  if (ended?.ok !== true) throw ended?.error ?? new TokenError(CKR.functionCanceled, '', 'the work was cancelled');
  return ended.value;
}

/** Runs tasks in parallel and returns their results in order. Throws the first error after all tasks have ended. */
export function* runTogether<T>({ port }: { readonly port: Port }, tasks: readonly Task<T>[]): Task<T[]> {
  const running = tasks.map((task) => port.start(task));
  for (const each of running) yield* awaitCompletion(port, each);
  const results: T[] = [];
  for (const each of running) results.push(yield* awaitResult(each));
  return results;
}
