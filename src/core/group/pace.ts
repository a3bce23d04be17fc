import type { Task } from '../base/task.js';
import { sleepUntil } from '../base/waiting.js';
import type { Group } from './group.js';

/** Multiple of a piece of work's duration that the rest after it takes. */
const REST_MULTIPLE = 8;
/** Maximum of a rest (ms). */
const LONGEST_REST = 100;

/** Pace of long work (Rule 17): while applications call, the work takes a ninth of the time. */
export class Pace {
  #startedAt: number;
  #requests: number;

  constructor(readonly group: Group) {
    this.#startedAt = group.port.now();
    this.#requests = group.requests;
  }

  /** Rests after a piece of work, if applications have called meanwhile. */
  *rest(): Task<void> {
    const { group } = this;
    const { port } = group;
    if (group.requests > this.#requests) {
      const until = port.now() + Math.min(LONGEST_REST, (port.now() - this.#startedAt) * REST_MULTIPLE);
      this.#requests = group.requests;
      yield* sleepUntil(until);
    }
    this.#startedAt = port.now();
  }
}
