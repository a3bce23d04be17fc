import { CKR } from '../../spec/codes.js';
import { refuse } from './error.js';
import { FOREVER, Signal, type Task } from './task.js';
import { race } from './waiting.js';

/** Mutual exclusion for tasks, first come first served. A task that is ended while it waits lets no other task pass. */
export class Mutex {
  #last: Signal | undefined;

  /** Runs work after all earlier work. Refuses with CKR_ACTION_PROHIBITED if that is not done by the deadline. */
  *runExclusive<T>(work: Task<T>, deadline: number = FOREVER): Task<T> {
    const previous = this.#last;
    const own = new Signal();
    this.#last = own;
    try {
      if (previous !== undefined && !previous.completed) yield* race([previous], deadline);
      if (previous?.completed === false)
        refuse(CKR.actionProhibited, 'this process still does other work on the group; try again later');
      return yield* work;
    } finally {
      if (previous === undefined || previous.completed) own.complete();
      else previous.add({ wake: () => own.complete() });
    }
  }
}
