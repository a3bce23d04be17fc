/**
 * Set, interrupted calls are interrupted at each of their boundaries, which takes many minutes: `npm test` takes a
 * sample.
 */
export const isEveryBoundary: boolean = process.env.EVERY_BOUNDARY !== undefined;

const below = (count: number): number => Math.floor(Math.random() * count);

/**
 * How many of a member's calls are let through before something ends, one number after the other and without end: all,
 * or a sample, another one each time. Its first is one of the first `sure` calls, so many as are made in any case; the
 * others are `stride` apart at an average.
 */
export function* boundaries(stride: number, sure: number): Generator<number, never> {
  if (isEveryBoundary) for (let skip = 0; ; skip += 1) yield skip;
  for (let skip = below(sure); ; skip += 1 + below(2 * stride - 1)) yield skip;
}
