import type { Job } from '../../spec/job.js';

/** Running estimate of an operation's duration (ms), and the number of samples. */
interface Estimate {
  mean: number;
  deviation: number;
  count: number;
}

/** Share of each sample in the mean; as TCP estimates round trips (RFC 6298). */
const MEAN_GAIN = 1 / 8;
/** Share of each sample in the deviation (RFC 6298). */
const DEVIATION_GAIN = 1 / 4;

/** Latency of each kind of operation; times in ms. */
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

  /** Returns the mean duration of a kind; undefined if it has not been seen. */
  meanOf(kind: string): number | undefined {
    return this.#estimates.get(kind)?.mean;
  }

  /** Returns a bound that few operations of a kind exceed; undefined before the fourth sample. */
  boundOf(kind: string): number | undefined {
    const known = this.#estimates.get(kind);
    return known === undefined || known.count < 4 ? undefined : known.mean + 4 * known.deviation;
  }
}

/** Minimum of an adaptive time-out (ms). */
const ATTEMPT_FLOOR = 20;
/** Time-out of an operation whose latency is unknown (ms). */
const ATTEMPT_UNKNOWN = 400;
/** Multiple of the latency bound after which an attempt is late. */
const ATTEMPT_MULTIPLE = 3;

/** Returns the adaptive time-out of an attempt (ms), from the latency bound of its operation, at most `ceiling`. */
export function attemptTimeout(bound: number | undefined, ceiling: number): number {
  const wanted = bound === undefined ? ATTEMPT_UNKNOWN : Math.max(ATTEMPT_FLOOR, bound * ATTEMPT_MULTIPLE);
  return Math.min(wanted, ceiling);
}

/** Returns the time-out of a long write (ms), at least `hangAfter`: the times of long writes differ a lot. */
export function longWriteTimeout(bound: number | undefined, hangAfter: number, writeHangAfter: number): number {
  return Math.min(Math.max(hangAfter, (bound ?? 0) * ATTEMPT_MULTIPLE), writeHangAfter);
}

/** Timing of a connection's jobs by its member: when a job is late, and the latency of finished jobs. */
export interface Timing {
  /** Returns the time-out of a job by its kind of operation, and whether it writes token objects or makes keys (ms). */
  timeoutOf(ticket: { readonly job: Job; readonly kind: string }): number;
  /** Returns the time by which a job must begin (ms of the port's clock). */
  beginBy(ticket: { readonly job: Job; readonly deadline: number }): number;
  /** Notes the duration of a job that succeeded (ms); `late`: the job was late. */
  took(kind: string, duration: number, late: boolean): void;
}
