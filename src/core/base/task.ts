/** What a waiting task asks to be told through; the scheduler's side of a wait. */
export interface Waiter {
  wake(): void;
}

/**
 * Something that tasks wait for. `fire` wakes those who wait now; `settle` does so for good: whoever waits
 * for a settled signal goes on at once.
 */
export class Signal {
  // Fields are set in the constructor, and one waiter needs no set: signals are made several times a call.
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

/** What a task yields: go on when one of the signals fires, or at `until` (ms of the port's clock). */
export interface Wait {
  readonly signals: readonly Signal[];
  readonly until: number;
}

/**
 * A piece of work that decides and waits, written once for asynchronous and synchronous callers and for
 * tests on virtual time. Ended from outside by `return`, so what it must give back it gives back in `finally`.
 */
export type Task<T> = Generator<Wait, T, void>;

export type Ended<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: unknown };

/** A started task; settled when it has ended. */
export abstract class Running<T> extends Signal {
  abstract readonly ended: Ended<T> | undefined;
  /** Ends the task where it waits. */
  abstract cancel(reason: unknown): void;
}

/** A signal that fires at a time; of several times asked for it keeps the earliest. */
export abstract class Alarm extends Signal {
  abstract ringAt(time: number): void;
  abstract stop(): void;
}

export const FOREVER: number = Number.POSITIVE_INFINITY;
