// Measurement of one outage under steady load: latencies of the affected calls, and when the member left and returned.
import { setTimeout as pause } from 'node:timers/promises';
import { quantile, rounded } from '../lib/statistics.js';

/** Time of healthy load that is measured before the outage (ms). */
const HEALTHY = 2000;
/** Length of an outage (ms). Calls that ran or began during the outage are affected. */
const AFTER = 1000;
/** Maximum wait for the member's return (ms). */
const BACK_WITHIN = 20_000;

/** Callers, each with one call after the other until `stop`. Keeps every call with its start, duration and error. */
export class Load {
  calls = [];
  #isOver = false;
  #callers;

  constructor(count, call) {
    const caller = async () => {
      while (!this.#isOver) {
        const startedAt = performance.now();
        let error;
        try {
          await call();
        } catch (problem) {
          error = problem;
        }
        this.calls.push({ startedAt, took: performance.now() - startedAt, error });
        // A synchronous caller must yield, or no other code of this process would run.
        if (count === 1) await new Promise((resolve) => setImmediate(resolve));
      }
    };
    this.#callers = Promise.all(Array.from({ length: count }, caller));
  }

  async stop() {
    this.#isOver = true;
    await this.#callers;
  }
}

/**
 * Begins an outage of the member that `victim` returns, and ends the outage a second later. Latencies are in ms. `out`:
 * time from the beginning of the outage until the member was out of rotation (ms). `back`: time from the end of the
 * outage until the member was active again (ms). Both are undefined if that did not happen.
 */
export async function measure({ load, begin, events, victim, isSlow, shareOf }) {
  await pause(HEALTHY / 2);
  const healthyFrom = performance.now();
  await pause(HEALTHY);
  const moves = [];
  const name = victim();
  const note = (event) => event.member === name && moves.push({ at: performance.now(), to: event.to });
  events.on('member', note);
  const startedAt = performance.now();
  const share = isSlow ? shareOf(name) : undefined;
  const end = await begin(name);
  await pause(AFTER);
  const slowShare = share?.();
  await end();
  const endedAt = performance.now();
  const out = moves.find(({ to }) => to !== 'active');
  const isBack = () => out === undefined || moves.at(-1)?.to === 'active';
  while (!isBack() && performance.now() < endedAt + BACK_WITHIN) await pause(5);
  await load.stop();
  events.off('member', note);
  const back = out === undefined ? undefined : moves.findLast(({ to }) => to === 'active');
  const met = load.calls.filter(({ startedAt: from, took }) => from + took > startedAt && from < startedAt + AFTER);
  const healthy = load.calls.filter(({ startedAt: from, took }) => from > healthyFrom && from + took < startedAt);
  return {
    victim: name,
    healthy: spreadOf(healthy),
    met: spreadOf(met),
    failed: load.calls.filter(({ error }) => error !== undefined).length,
    errors: [...new Set(load.calls.flatMap(({ error }) => error?.message ?? []))].slice(0, 3),
    out: out === undefined ? undefined : rounded(out.at - startedAt),
    back: back === undefined ? undefined : rounded(Math.max(0, back.at - endedAt)),
    ...(slowShare === undefined ? {} : { slowShare, rate: met.length / (AFTER / 1000) }),
    timeline: load.calls
      .filter(({ startedAt: from }) => from > startedAt - 500 && from < startedAt + 2000)
      .map(({ startedAt: from, took }) => [rounded(from - startedAt), rounded(took)]),
  };
}

function spreadOf(calls) {
  const latencies = calls.map(({ took }) => took);
  return {
    calls: calls.length,
    p50: rounded(quantile(latencies, 0.5)),
    p99: rounded(quantile(latencies, 0.99)),
    max: rounded(quantile(latencies, 1)),
  };
}
