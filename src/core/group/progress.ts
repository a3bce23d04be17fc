import type { ProgressEvent } from '../base/event.js';
import type { Group } from './group.js';

/** Minimum interval between progress events (ms). */
const EVENT_INTERVAL = 250;

/** Progress of long work on a member, told by events. */
export class Progress {
  readonly #startedAt: number;
  #toldAt: number;
  #done = 0;

  constructor(
    readonly group: Group,
    readonly member: string,
    readonly what: ProgressEvent['what'],
    readonly total: number,
  ) {
    this.#startedAt = group.port.now();
    this.#toldAt = this.#startedAt;
  }

  /** Counts objects that are done. */
  advance(count = 1): void {
    this.#done += count;
    if (this.group.port.now() - this.#toldAt >= EVENT_INTERVAL) this.#tell();
  }

  /** Tells the end of the work. */
  finish(): void {
    if (this.total > 0) this.#tell();
  }

  #tell(): void {
    const now = this.group.port.now();
    this.#toldAt = now;
    const seconds = (now - this.#startedAt) / 1000;
    this.group.emit({
      type: 'progress',
      member: this.member,
      what: this.what,
      done: this.#done,
      total: this.total,
      rate: seconds === 0 ? 0 : Math.round(this.#done / seconds),
    });
  }
}
