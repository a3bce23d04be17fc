import { FOREVER, Signal, type Task } from './task.js';

/** Work that has to be done one piece after the other. Whoever leaves while it waits does not let others pass. */
export class Turns {
  #last: Signal | undefined;

  *take<T>(work: Task<T>): Task<T> {
    const before = this.#last;
    const mine = new Signal();
    this.#last = mine;
    try {
      if (before !== undefined && !before.settled) yield { signals: [before], until: FOREVER };
      return yield* work;
    } finally {
      if (before === undefined || before.settled) mine.settle();
      else before.add({ wake: () => mine.settle() });
    }
  }
}
