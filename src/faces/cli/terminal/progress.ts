import type { ProgressEvent } from '../../../core/base/event.js';

const WIDTH = 24;

/** How far long work has come, in one line on the terminal's error stream; where that is none nothing is shown. */
export class ProgressBar {
  #isThere = false;

  constructor(private readonly isShown: boolean) {}

  show({ member, what, done, total, rate }: ProgressEvent): void {
    if (!this.isShown || total === 0) return;
    const full = Math.round((WIDTH * Math.min(done, total)) / total);
    const bar = `${'█'.repeat(full)}${'░'.repeat(WIDTH - full)}`;
    process.stderr.write(`\r\u001b[K${bar} ${what} (${member}): ${done} of ${total}, ${rate.toFixed(0)} a second`);
    this.#isThere = true;
  }

  /** Takes the line away. */
  end(): void {
    if (this.#isThere) process.stderr.write('\r\u001b[K');
    this.#isThere = false;
  }
}
