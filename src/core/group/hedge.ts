/** Number of hedges that one call earns: hedges stay at most this share of all calls. */
const SHARE = 0.05;
/** Maximum number of hedges that are saved up. */
const MAX_SAVED = 16;

/** Budget of hedges, which keeps them a small share of all calls. */
export class HedgeBudget {
  #saved = MAX_SAVED;

  /** Adds what one call earns. */
  earn(): void {
    this.#saved = Math.min(MAX_SAVED, this.#saved + SHARE);
  }

  /** Takes one hedge from the budget; returns false if there is none. */
  take(): boolean {
    if (this.#saved < 1) return false;
    this.#saved -= 1;
    return true;
  }
}
