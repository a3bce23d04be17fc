import type { ProgressEvent } from '../../../core/base/event.js';

/** Width of the bar (characters). */
const WIDTH = 24;

/** Progress of long work, as one line on the error stream; shows nothing unless enabled. */
export class ProgressBar {
  readonly #isEnabled: boolean;
  #isThere = false;

  constructor(isEnabled: boolean) {
    this.#isEnabled = isEnabled;
  }

  show({ member, what, done, total, rate }: ProgressEvent): void {
    if (!this.#isEnabled || total === 0) return;
    const full = Math.round((WIDTH * Math.min(done, total)) / total);
    const bar = `${'█'.repeat(full)}${'░'.repeat(WIDTH - full)}`;
    process.stderr.write(`\r\u001b[K${bar} ${what} (${member}): ${done} of ${total}, ${rate.toFixed(0)} a second`);
    this.#isThere = true;
  }

  /** Erases the line. */
  end(): void {
    if (this.#isThere) process.stderr.write('\r\u001b[K');
    this.#isThere = false;
  }
}
