import { setTimeout as sleep } from 'node:timers/promises';

/** Limit of a wait (ms). */
const LIMIT = 60_000;

/** Pause between two looks at a condition (ms). */
const PAUSE = 10;

/** Looks at a condition until it holds; throws after the limit, with a description of what did not happen. */
export async function until(holds, what) {
  const end = Date.now() + LIMIT;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not within ${LIMIT / 1000} s: ${what()}`);
    await sleep(PAUSE);
  }
}
