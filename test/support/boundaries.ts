/**
 * True if EVERY_BOUNDARY is set: tests then interrupt a call at each of its boundaries, which takes many minutes.
 * `npm test` takes a sample.
 */
export const isEveryBoundary: boolean = process.env.EVERY_BOUNDARY !== undefined;

const below = (count: number): number => Math.floor(Math.random() * count);

/**
 * Yields, without end, the number of a member's calls that pass before the interruption: every number, or a random
 * sample. The first is below `sure`, the number of calls that are made in any case. The others are `stride` apart on
 * average.
 */
export function* boundaries(stride: number, sure: number): Generator<number, never> {
  if (isEveryBoundary) for (let skip = 0; ; skip += 1) yield skip;
  for (let skip = below(sure); ; skip += 1 + below(2 * stride - 1)) yield skip;
}
