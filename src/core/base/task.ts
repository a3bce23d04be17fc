/** Receiver of a signal: the scheduler's side of a wait. */
export interface Waiter {
  wake(): void;
}

/**
 * Signal that tasks wait for. `fire` wakes the tasks that wait now. `complete` does so once and for good: a task that
 * waits for a completed signal goes on at once.
 */
export class Signal {
  // Fields are set in the constructor and a single waiter needs no set, since each call makes several signals.
  private waiters: Waiter | Set<Waiter> | undefined;
  completed: boolean;

  constructor() {
    this.waiters = undefined;
    this.completed = false;
  }

  add(waiter: Waiter): void {
    const { waiters } = this;
    if (waiters === undefined) this.waiters = waiter;
    else if (waiters instanceof Set) waiters.add(waiter);
    else if (waiters !== waiter) this.waiters = new Set([waiters, waiter]);
  }

  remove(waiter: Waiter): void {
    if (this.waiters instanceof Set) this.waiters.delete(waiter);
    else if (this.waiters === waiter) this.waiters = undefined;
  }

  fire(): void {
    const { waiters } = this;
    if (waiters instanceof Set) for (const waiter of waiters) waiter.wake();
    else waiters?.wake();
  }

  complete(): void {
    if (this.completed) return;
    this.completed = true;
    this.fire();
  }
}

/** Wait that a task yields: until one of the signals fires, or until a time (ms of the port's clock). */
export interface Wait {
  readonly signals: readonly Signal[];
  readonly until: number;
}

/**
 * Piece of work that decides and waits, written once for asynchronous and synchronous callers (Rule 1) and for tests on
 * virtual time. A task can be ended from outside by `return`, so it releases what it holds in `finally`.
 */
export type Task<T> = Generator<Wait, T, void>;

/** End of a task: its value or its error. */
export type Ended<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: unknown };

/** Started task; completed when the task has ended. */
export abstract class Running<T> extends Signal {
  /** End of the task; undefined while it runs. */
  abstract readonly ended: Ended<T> | undefined;
  /** Ends the task at its current wait; its `finally` blocks run. */
  abstract cancel(reason: unknown): void;
  /** Asks the task to end for a caller that gives up: cancels it, unless the task defers that (`Port.deferAbort`). */
  abstract abort(reason: unknown): void;
}

/** Signal that fires at a time. If several times are set, the earliest counts. */
export abstract class Alarm extends Signal {
  abstract ringAt(time: number): void;
  abstract stop(): void;
}

/** Time that never comes (ms of the port's clock). */
export const FOREVER: number = Number.POSITIVE_INFINITY;
