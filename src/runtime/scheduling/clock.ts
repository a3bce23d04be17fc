// performance.now() counts from the start of the process (or worker); hosts read the machine's monotonic
// clock. Both are the same clock, so one difference, taken once, turns one into the other.
// The global is a getter, which costs more than the clock does.
const clock = performance;
const origin = Number(process.hrtime.bigint()) / 1e6 - clock.now();

/** CLOCK_MONOTONIC in ms, with fractions: the clock that hosts have too. */
export function monotonicNow(): number {
  return origin + clock.now();
}
