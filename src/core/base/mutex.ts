import { CKR } from '../../spec/codes.js';
import { refuse } from './error.js';
import { FOREVER, Signal, type Task } from './task.js';

/** Work that has to be done one piece after the other. Whoever leaves while it waits does not let others pass. */
export class Mutex {
  #last: Signal | undefined;

  /** CKR_ACTION_PROHIBITED where its turn has not come by the deadline. */
  *runExclusive<T>(work: Task<T>, deadline: number = FOREVER): Task<T> {
    const before = this.#last;
    const mine = new Signal();
    this.#last = mine;
    try {
      if (before !== undefined && !before.completed) yield { signals: [before], until: deadline };
      if (before?.completed === false)
        refuse(CKR.actionProhibited, 'other work on the group is still going on in this process');
      return yield* work;
    } finally {
      if (before === undefined || before.completed) mine.complete();
      else before.add({ wake: () => mine.complete() });
    }
  }
}
