const SHARE = 0.05;
const MOST = 16;

/** Keeps second attempts a small share of all calls: each call earns a twentieth of one. */
export class HedgeBudget {
  #tokens = MOST;

  earn(): void {
    this.#tokens = Math.min(MOST, this.#tokens + SHARE);
  }

  take(): boolean {
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
