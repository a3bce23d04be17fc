/** Jittered exponential back-off that starts at once: 0, then around `first`, doubling up to `most` (ms). */
export function backoff(failures: number, first: number, most: number, random: number): number {
  if (failures <= 0) return 0;
  const full = Math.min(most, first * 2 ** (failures - 1));
  return full / 2 + (full / 2) * random;
}

const REJOIN_FIRST = 100;
const REJOIN_MOST = 5000;

/** How long a member is left alone after so many joins that failed in a row (ms): after the first not at all. */
export function rejoinAfter(failures: number, random: number): number {
  return backoff(failures - 1, REJOIN_FIRST, REJOIN_MOST, random);
}
