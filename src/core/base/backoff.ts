/**
 * Returns the pause before the next try (ms). It is 0 without a failure, then at most `first`, and doubles with each
 * failure up to `most`. A `random` number from 0 to 1 shortens the pause to between half and all of that.
 */
export function backoff(failures: number, first: number, most: number, random: number): number {
  if (failures <= 0) return 0;
  const full = Math.min(most, first * 2 ** (failures - 1));
  return full / 2 + (full / 2) * random;
}

/** Longest pause after the second failed join in a row (ms). */
const REJOIN_FIRST = 100;
/** Longest pause between two joins (ms). */
const REJOIN_MOST = 5000;

/** Returns the pause after a number of joins that failed in a row (ms). After the first failure there is none. */
export function rejoinAfter(failures: number, random: number): number {
  return backoff(failures - 1, REJOIN_FIRST, REJOIN_MOST, random);
}
