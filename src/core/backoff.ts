/** Jittered exponential back-off that starts at once: 0, then around `first`, doubling up to `most` (ms). */
export function backoff(failures: number, first: number, most: number, random: number): number {
  if (failures <= 0) return 0;
  const full = Math.min(most, first * 2 ** (failures - 1));
  return full / 2 + (full / 2) * random;
}
