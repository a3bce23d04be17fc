// Converts performance.now(), which counts from the start of the process (or worker), to the machine's monotonic clock,
// which hosts read. Both run on one clock, so a difference taken once is enough.
// Kept in a constant: the global is a getter, which costs more than reading the clock.
const clock = performance;
const origin = Number(process.hrtime.bigint()) / 1e6 - clock.now();

/** Reads CLOCK_MONOTONIC (ms, with fractions), the clock that hosts read too. */
export function monotonicNow(): number {
  return origin + clock.now();
}
