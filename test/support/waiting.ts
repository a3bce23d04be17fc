import { setTimeout as sleep } from 'node:timers/promises';

/** Limit of a wait (ms): below jest's time-out of 120 s, so that the error names the condition that did not come. */
const LIMIT = 60_000;

/** Pause between two looks at a condition (ms). */
const PAUSE = 5;

/** Waits for a promise; throws after the limit, with a description of what did not happen. */
export async function within<T>(promise: Promise<T>, what: () => string, limit: number = LIMIT): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${limit / 1000} s: ${what()}`)), limit);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Looks at a condition every few milliseconds until it holds; throws after the limit, with a description of what did
 * not happen. A loop without a limit goes on after the time-out of its test, and keeps jest from ending.
 */
export async function until(
  holds: () => boolean | Promise<boolean>,
  what: () => string,
  limit: number = LIMIT,
): Promise<void> {
  const end = Date.now() + limit;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not within ${limit / 1000} s: ${what()}`);
    await sleep(PAUSE);
  }
}
