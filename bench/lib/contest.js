// Contestants that do the same work, in turns within one run: machines are noisy, ratios of one run are not.
import { stopwatch } from './processor-time.js';
import { median, quantile, rounded } from './statistics.js';

/** Set by `--quick`: enough to see that everything runs, not to believe the figures. */
export const pace = { rounds: 7, seconds: 0.4 };

/** Until code that is called often has been compiled (s). */
const WARM_UP = 1;

/**
 * Calls for so long, so many at a time. `call` is given the number of the caller, so that each can have a session of
 * its own. Gives what a round gives.
 */
export async function callFor(seconds, callers, call, pids = []) {
  const latencies = [];
  const used = stopwatch(pids);
  const startedAt = performance.now();
  const until = startedAt + seconds * 1000;
  const caller = async (number) => {
    for (let now = performance.now(); now < until; ) {
      await call(number);
      const then = performance.now();
      latencies.push(then - now);
      now = then;
    }
  };
  await Promise.all(Array.from({ length: callers }, (_, number) => caller(number)));
  return resultOf(latencies, startedAt, used);
}

/** The same without any turn of the event loop in between. */
export function callSyncFor(seconds, call, pids = []) {
  const latencies = [];
  const used = stopwatch(pids);
  const startedAt = performance.now();
  const until = startedAt + seconds * 1000;
  for (let now = startedAt; now < until; ) {
    call();
    const then = performance.now();
    latencies.push(then - now);
    now = then;
  }
  return resultOf(latencies, startedAt, used);
}

function resultOf(latencies, startedAt, used) {
  const seconds = (performance.now() - startedAt) / 1000;
  return { operations: latencies.length, seconds, processor: used(), latencies };
}

/**
 * Runs all contestants round after round, after one round for warming up. A contestant's `round(seconds)` gives
 * `{operations, seconds, processor, latencies}`. The result has a row for each: operations a second, processor time
 * an operation (µs), and latency (µs) where there is one: medians of the rounds, p99 over all of them.
 */
export async function contest(contestants, { rounds = pace.rounds, seconds = pace.seconds } = {}) {
  const all = contestants.map(() => []);
  for (let round = -1; round < rounds; round += 1) {
    for (const [index, { round: run }] of contestants.entries()) {
      const result = await run(round < 0 ? WARM_UP : seconds);
      if (round >= 0) all[index].push(result);
    }
  }
  return contestants.map(({ name }, index) => {
    const results = all[index];
    const latencies = results.flatMap(({ latencies: own = [] }) => own);
    return {
      name,
      rate: rounded(median(results.map(({ operations, seconds: took }) => operations / took))),
      processor: rounded(median(results.map(({ processor, operations }) => (processor * 1e6) / operations))),
      ...(latencies.length === 0
        ? {}
        : { p50: rounded(1000 * quantile(latencies, 0.5)), p99: rounded(1000 * quantile(latencies, 0.99)) }),
    };
  });
}
