interface Estimate {
  mean: number;
  deviation: number;
  count: number;
}

// As TCP estimates its round trips: slow enough to stay calm, quick enough to follow.
const MEAN_GAIN = 1 / 8;
const DEVIATION_GAIN = 1 / 4;

/** What each kind of operation has been taking; times in ms. */
export class LatencyTable {
  readonly #estimates = new Map<string, Estimate>();

  update(kind: string, duration: number): void {
    const known = this.#estimates.get(kind);
    if (known === undefined) {
      this.#estimates.set(kind, { mean: duration, deviation: duration / 2, count: 1 });
      return;
    }
    known.deviation += (Math.abs(duration - known.mean) - known.deviation) * DEVIATION_GAIN;
    known.mean += (duration - known.mean) * MEAN_GAIN;
    known.count += 1;
  }

  meanOf(kind: string): number | undefined {
    return this.#estimates.get(kind)?.mean;
  }

  /** What hardly any operation of the kind exceeds; undefined until it has been seen a few times. */
  boundOf(kind: string): number | undefined {
    const known = this.#estimates.get(kind);
    return known === undefined || known.count < 4 ? undefined : known.mean + 4 * known.deviation;
  }
}

/** When an attempt is late: `attemptTimeout` fixed, or adaptive within these limits. */
const ATTEMPT_FLOOR = 20;
const ATTEMPT_UNKNOWN = 400;
const ATTEMPT_MULTIPLE = 3;

/** The adaptive time-out of an attempt, from what the operation takes on the member, or else in the group. */
export function attemptTimeout(bound: number | undefined, ceiling: number): number {
  const wanted = bound === undefined ? ATTEMPT_UNKNOWN : Math.max(ATTEMPT_FLOOR, bound * ATTEMPT_MULTIPLE);
  return Math.min(wanted, ceiling);
}

/** The same for jobs that write token objects or make keys, whose times differ a lot: never below `hangAfter`. */
export function longWriteTimeout(bound: number | undefined, hangAfter: number, writeHangAfter: number): number {
  return Math.min(Math.max(hangAfter, (bound ?? 0) * ATTEMPT_MULTIPLE), writeHangAfter);
}
