import { addon } from '../hosts/addon.js';

// Converts performance.now(), which counts from the start of the process (or worker), to the machine's monotonic clock,
// which hosts read. Both run on one clock, so a difference taken once is enough.
// Kept in a constant: the global is a getter, which costs more than reading the clock.
const clock = performance;
const origin = Number(process.hrtime.bigint()) / 1e6 - clock.now();

/** Reads CLOCK_MONOTONIC (ms, with fractions), the clock that hosts read too. */
export function monotonicNow(): number {
  return origin + clock.now();
}

/** Time after which the offset between the clocks is sampled again (ms): the machine may have been suspended. */
const SAMPLE_AFTER = 50;
let sampledAt = Number.NEGATIVE_INFINITY;
let offset = Number.NEGATIVE_INFINITY;

/**
 * Returns CLOCK_BOOTTIME minus CLOCK_MONOTONIC (ms), sampled at most 50 ms ago. The offset grows by the time for which
 * the machine was suspended, and never shrinks. A stale offset so makes a converted deadline early, which is safe.
 */
export function bootOffset(): number {
  const now = monotonicNow();
  if (now - sampledAt > SAMPLE_AFTER) {
    // A delay between the two readings makes the sample too small; the largest sample is the best one.
    offset = Math.max(offset, addon.bootTime() - monotonicNow());
    sampledAt = now;
  }
  return offset;
}
