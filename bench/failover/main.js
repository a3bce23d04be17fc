// Measures the effect on callers when a member fails under load:
//
//   npm run bench:failover -- [--only NAME,NAME…] [--json FILE]
//
// 64 callers sign steadily with ECDSA, then one member of two fails. Each outage is measured with hedging on and off,
// driven by the event loop (promises) and by synchronous calls (one caller, because there cannot be more).
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Bed } from '../lib/bed.js';
import { makeKeys, operationOf } from '../lib/operations.js';
import { describeMachine, printGoals, printRows } from '../lib/output.js';
import { callOf } from '../peers/ours.js';
import { judgeFailover } from './goals.js';
import { Load, measure } from './measurement.js';
import { outages } from './outages.js';
import { openSyncCaller } from './sync-caller.js';

const { values } = parseArgs({ options: { only: { type: 'string' }, json: { type: 'string' } } });
const wanted = values.only?.split(',') ?? outages.map(({ name }) => name);
const unknown = wanted.filter((name) => !outages.some((outage) => outage.name === name));
if (unknown.length > 0) {
  const choices = outages.map(({ name }) => name).join(', ');
  process.stderr.write(`unknown outage: ${unknown.join(', ')}; choose from ${choices}\n`);
  process.exit(2);
}

/** Number of callers with promises. */
const CALLERS = 64;
/** Fixed time-out that is measured besides the adaptive one (ms). */
const FIXED = 200;
const operation = operationOf('ECDSA P-256');
/** Member that fails under callers with promises, whose calls go to both members. */
const FIRST = 'hsm1';

/** Yields each outage in all ways in which it is measured. */
function* plan() {
  for (const outage of outages.filter(({ name }) => wanted.includes(name))) {
    for (const driver of ['promises', 'synchronous']) {
      for (const hedge of [true, false]) yield { outage, driver, hedge };
    }
    if (outage.name === 'hang') yield { outage, driver: 'promises', hedge: true, attemptTimeout: FIXED };
  }
}

async function run({ outage, driver, hedge, attemptTimeout }) {
  const keys = makeKeys();
  const bed = await (outage.isRemote ? Bed.remote : Bed.faulty)('failover', 2, keys);
  const policy = { hedge, ...(attemptTimeout === undefined ? {} : { attemptTimeout }) };
  try {
    const { token, call, callers, victim } = await openDriver(bed, driver, policy);
    const slowness = await usualTime(call, 20);
    const alone = outage.isSlow && driver === 'promises' ? await rateWithout(bed, policy) : undefined;
    const load = new Load(callers, call);
    const shareOf = (name) => countShare(bed, load, name);
    const begin = (name) => outage.begin({ bed, token, slowness }, name);
    const result = await measure({ load, begin, events: token, victim, isSlow: outage.isSlow, shareOf });
    if (outage.isFault && bed.faultsOf(result.victim) === 0)
      throw new Error(`${outage.name}: the faulty module on ${result.victim} caused no fault`);
    return { outage: outage.name, driver, hedge, attemptTimeout, callers, ...result, alone };
  } finally {
    await bed.close();
  }
}

async function openDriver(bed, driver, policy) {
  if (driver === 'synchronous') return { ...(await openSyncCaller(bed, policy, operation)), callers: 1 };
  const token = await bed.open(policy);
  return { token, call: await callOf(token, operation), callers: CALLERS, victim: () => FIRST };
}

/** Returns `times` times the median time of a call without other load (ms). */
async function usualTime(call, times) {
  const took = [];
  for (let i = 0; i < 200; i += 1) {
    const startedAt = performance.now();
    await call();
    took.push(performance.now() - startedAt);
  }
  took.sort((a, b) => a - b);
  return Math.max(1, Math.round(times * took[100]));
}

/** Measures calls a second of a group without the member that fails. */
async function rateWithout(bed, policy) {
  const token = await bed.open(
    policy,
    bed.members.filter(({ name }) => name !== FIRST),
  );
  const load = new Load(CALLERS, await callOf(token, operation));
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const before = load.calls.length;
  const startedAt = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const rate = ((load.calls.length - before) / (performance.now() - startedAt)) * 1000;
  await load.stop();
  return rate;
}

/**
 * Counts calls from now on. Returns a function that gives the slow member's share of the calls after the first hundred
 * (0 to 1).
 */
function countShare(bed, load, victim) {
  const from = load.calls.length;
  let skipped;
  const timer = setInterval(() => {
    if (skipped !== undefined || load.calls.length < from + 100) return;
    skipped = { calls: load.calls.length, faults: bed.faultsOf(victim) };
  }, 1);
  return () => {
    clearInterval(timer);
    if (skipped === undefined) return undefined;
    return (bed.faultsOf(victim) - skipped.faults) / Math.max(1, load.calls.length - skipped.calls);
  };
}

const results = { machine: describeMachine(), outages: [] };
for (const each of plan()) {
  const { outage, driver, hedge, attemptTimeout } = each;
  const how = `${driver}, hedging ${hedge ? 'on' : 'off'}${attemptTimeout === undefined ? '' : `, time-out ${attemptTimeout} ms`}`;
  process.stderr.write(`  ${outage.name}: ${how}\n`);
  results.outages.push(await run(each));
}
printRows(
  results.outages.map(({ outage, driver, hedge, attemptTimeout, healthy, met, failed, out, back }) => ({
    outage,
    driver,
    hedging: hedge ? 'on' : 'off',
    'time-out': attemptTimeout ?? '',
    'healthy p50': healthy.p50,
    'healthy p99': healthy.p99,
    'met p50': met.p50,
    'met p99': met.p99,
    'met max': met.max,
    failed,
    'out after': out,
    'back after': back,
  })),
);
for (const { outage, errors } of results.outages)
  for (const error of errors) process.stdout.write(`${outage}: ${error}\n`);
results.goals = judgeFailover(results.outages);
printGoals(results.goals);
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, null, 1)}\n`);
