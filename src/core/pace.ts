import type { Group } from './group.js';
import type { Task } from './task.js';

/** So many calls of its own a piece of work makes at most: more are the applications'. */
const OWN_CALLS = 6;
/** No rest is longer (ms). */
const LONGEST_REST = 100;

/**
 * Keeps long work to its share (Rule 17): while applications call, it rests after each piece for as long as that has
 * taken.
 */
export class Pace {
  #startedAt: number;
  #calls: number;

  constructor(readonly group: Group) {
    this.#startedAt = group.port.now();
    this.#calls = group.counters.calls;
  }

  *rest(): Task<void> {
    const { port, counters } = this.group;
    const took = port.now() - this.#startedAt;
    if (counters.calls - this.#calls > OWN_CALLS) {
      const until = port.now() + Math.min(LONGEST_REST, took);
      while (port.now() < until) yield { signals: [], until };
    }
    this.#startedAt = port.now();
    this.#calls = counters.calls;
  }
}
