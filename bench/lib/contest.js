// Contest of contestants that do the same work in turns within one run. Absolute figures vary on a noisy machine;
// ratios within one run vary much less.
import { stopwatch } from './processor-time.js';
import { median, quantile, rounded } from './statistics.js';

/** Number of rounds, and length of a round (s). `--quick` shortens both, which checks that everything runs. */
export const pace = { rounds: 7, seconds: 0.4 };

/** Length of the round before the first measured one (s): time for Node.js to compile the code. */
const WARM_UP = 1;

/**
 * Calls for some seconds with `callers` calls at a time. `call` receives the number of the caller, so that each caller
 * can have its own session. Returns the result of a round.
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

/** Calls synchronously for some seconds, without running the event loop. Returns the result of a round. */
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
 * Runs all contestants in turns, after one round for warming up. A contestant's `round(seconds)` returns
 * `{operations, seconds, processor, latencies}`. Returns a row for each contestant: operations a second, processor time
 * an operation (µs), and latency (µs) if measured. Rates and processor times are medians of the rounds.
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
