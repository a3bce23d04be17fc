import type { BegunJob } from '../base/port.js';

/** Times after which a job counts as hung (ms; Rule 9). */
export interface HangLimits {
  readonly hangAfter: number;
  /** Limit of long writes, which write token objects or make keys. */
  readonly writeHangAfter: number;
}

/** Returns the time after which a job counts as hung (ms). */
export function limitOf(longWrite: boolean, { hangAfter, writeHangAfter }: HangLimits): number {
  return longWrite ? writeHangAfter : hangAfter;
}

/** Number of calls that a step of work in the background may make, besides one write. */
const CALLS_OF_STEP = 5;

/** Returns the time limit of one step of work in the background (ms). */
export function stepLimit({ hangAfter, writeHangAfter }: HangLimits): number {
  return hangAfter * CALLS_OF_STEP + writeHangAfter;
}

/** Returns true if a begun job was over its limit at a time (ms of the port's clock). */
export function isOverLimit({ longWrite, since }: BegunJob, at: number, limits: HangLimits): boolean {
  return at - since >= limitOf(longWrite, limits);
}

/**
 * Returns true if one of the jobs at a host hangs: a begun job is over its limit, or the host has not replied for
 * `hangAfter`. While a token object is being written only that write can hang (Rule 9), since a host that is killed
 * inside a write leaves a partial object.
 */
export function isHanging(
  begun: readonly BegunJob[],
  lastReplyAt: number,
  now: number,
  { hangAfter, writeHangAfter }: HangLimits,
): boolean {
  const longWrites = begun.filter((entry) => entry.longWrite);
  if (longWrites.some(({ since }) => now - since >= writeHangAfter)) return true;
  if (longWrites.length > 0) return false;
  if (begun.some(({ since }) => now - since >= hangAfter)) return true;
  return now - lastReplyAt >= hangAfter;
}

/** Returns true while one of the begun jobs is a long write that is still within its limit. */
export function isWriting(begun: readonly BegunJob[], now: number, { writeHangAfter }: HangLimits): boolean {
  return begun.some(({ longWrite, since }) => longWrite && now - since < writeHangAfter);
}
