import type { ProgressEvent } from '../base/event.js';
import type { Group } from './group.js';

/** It is told how far something has come at most so often (ms). */
const TELL_EVERY = 250;

/** How far long work on a member has come, for whoever watches. */
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

  advance(count = 1): void {
    this.#done += count;
    if (this.group.port.now() - this.#toldAt >= TELL_EVERY) this.#tell();
  }

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
