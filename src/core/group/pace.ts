import type { Task } from '../base/task.js';
import { sleepUntil } from '../base/waiting.js';
import type { Group } from './group.js';

/** So many times as long as a piece of work has taken, it rests afterwards. */
const SHARE = 8;
/** No rest is longer (ms). */
const LONGEST_REST = 100;

/** Keeps long work to its share (Rule 17): while applications call, it works for a ninth of the time. */
export class Pace {
  #startedAt: number;
  #requests: number;

  constructor(readonly group: Group) {
    this.#startedAt = group.port.now();
    this.#requests = group.requests;
  }

  /** After each piece of work. */
  *rest(): Task<void> {
    const { group } = this;
    const { port } = group;
    if (group.requests > this.#requests) {
      const until = port.now() + Math.min(LONGEST_REST, (port.now() - this.#startedAt) * SHARE);
      this.#requests = group.requests;
      yield* sleepUntil(until);
    }
    this.#startedAt = port.now();
  }
}
