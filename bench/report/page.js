// Text of docs/benchmarks.md.
import { rounded } from '../lib/statistics.js';
import { contestantsIn, IN_FLIGHT, scalingIn } from './figures.js';

function table(rows) {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [
    line(columns),
    line(columns.map(() => '---')),
    ...rows.map((row) => line(columns.map((column) => row[column] ?? ''))),
  ].join('\n');
}

const times = (value) => `${rounded(value)} ×`;

function throughput({ scenarios }) {
  return table(
    contestantsIn(scenarios.throughput.rows).map((row) => ({
      operation: row.operation,
      [`group, ${IN_FLIGHT} in flight`]: row.ours,
      'pkcs11js async': row.pkcs11js,
      'group × pkcs11js async': times(row.ours / row.pkcs11js),
      'pkcs11js sync': row.sync,
      'graphene-pk11': row.graphene,
      'C, 1 thread': row.single,
      'C, 2 threads': row.straight,
      'group × C, 2 threads': times(row.ours / row.straight),
    })),
  );
}

function inFlight({ scenarios }) {
  const rows = scenarios.throughput.rows.filter(({ name }) => name.startsWith('ours'));
  return table(
    [...new Set(rows.map(({ operation }) => operation))].map((operation) => ({
      operation,
      ...Object.fromEntries(
        rows
          .filter((row) => row.operation === operation)
          .map(({ name, rate, p50, p99 }) => [
            `${name.replace('ours, ', '')}: calls/s (p50, p99 ms)`,
            `${rate} (${rounded(p50 / 1000)}, ${rounded(p99 / 1000)})`,
          ]),
      ),
    })),
  );
}

function scaling({ scenarios }) {
  const rows = scalingIn(scenarios.scaling.rows);
  return table(
    rows.map(({ members, rate }) => ({ members, 'calls/s': rate, '× one member': rounded(rate / rows[0].rate) })),
  );
}

function failover({ outages }) {
  return table(
    outages.map(({ outage, driver, hedge, attemptTimeout, healthy, met, failed, out, back }) => ({
      outage,
      driver,
      hedging: hedge ? 'on' : 'off',
      'time-out, ms': attemptTimeout ?? 'adaptive',
      'healthy p50, p99': `${healthy.p50}, ${healthy.p99}`,
      'met it: p50, p99, longest': `${met.p50}, ${met.p99}, ${met.max}`,
      calls: met.calls,
      failed,
      'out of rotation after': out ?? 'stayed in',
      'back after': out === undefined ? '' : (back ?? 'not in time'),
    })),
  );
}

const goals = (list) =>
  table(list.map(({ name, goal, value, met }) => ({ '': name, goal, measured: value, met: met ? 'yes' : '**no**' })));

/** Returns the page, from the results of both benches. */
export function page(bench, failures) {
  const { machine, scenarios } = bench;
  return `<!-- Written by bench/report. Change bench/report/page.js, not this file. -->
# Benchmarks

Measured on ${machine.processors} × ${machine.model}, ${machine.system}, Linux ${machine.kernel.split('-')[0]}, Node.js ${machine.node}, on ${machine.date}: a small shared
virtual machine, whose processors are sometimes taken by other machines. Compare **ratios within one run** only, in which all
contestants take turns; absolute figures show the order of magnitude. Measure on your machine:

    npm run bench                 throughput, latency, overhead, scaling, opening, generating, memory
    npm run bench:failover        latencies of callers when a member fails
    npm run bench:report          both, and this page with its charts: about twenty minutes
    node bench/catch-up.js 5000   duration of a catch-up, and latencies meanwhile: about half an hour

A group has two SoftHSM tokens as members unless stated otherwise; the other contestants use one of these tokens directly.
\`bench/README.md\` describes how it is measured.

## Throughput

Calls a second on token keys. pkcs11js asynchronous is the best of 1, 4, 8 and 16 sessions, with 16 threads in libuv's pool;
pkcs11js has no asynchronous call for random numbers.

![Throughput](benchmarks/throughput-${IN_FLIGHT}.svg)

${throughput(bench)}

With other numbers of calls in flight:

${inFlight(bench)}

## Synchronous calls

Through the pkcs11js face; times in µs.

${table(scenarios.latency.rows)}

## Cost of a call without the token

A PKCS#11 module that does nothing. Processor time is that of the application and its hosts, in µs.

${table(scenarios.overhead.rows)}

## More members

![Scaling](benchmarks/scaling.svg)

${scaling(bench)}

## Opening, and finding

Milliseconds. The rows of pkcs11js show the library's own time for the same calls.

${table(scenarios.opening.rows)}

Opening searches for the group's record once on each member, because only the record shows that a token was removed from the group.
On SoftHSM the time of a find and of C_Initialize grows with the number of objects, in both hosts at the same time.
${openingLimit(scenarios.opening)} Opening enumerates no objects.

## Making keys

Milliseconds a key. On the group, all members have the key and its record when the call returns.

${table(scenarios.generating.rows)}

## Sessions

${table(scenarios.memory.rows)}

## Failover

Milliseconds. 64 callers with promises, or one synchronous caller, sign with ECDSA; then one member of two fails. A call met the
outage if the call was in flight at its beginning or began within a second. \`stayed in\`: the member stayed in rotation, because no
failed or late call showed the outage; a caller that waits for each reply stays with one member for 32 calls.

![A host is killed](benchmarks/host-killed.svg)

![A library hangs](benchmarks/hang.svg)

${failover(failures)}

## Goals

${goals([...bench.goals, ...failures.goals])}
`;
}

/** States the part of opening that is neither the library's own start nor one find. */
function openingLimit({ rows }) {
  const rest = (objects) => {
    const of = (name) => rows.find((row) => row.objects === objects && row.name === name);
    return Math.round(of('ours').open - of('pkcs11js').open - of('pkcs11js')['first find']);
  };
  return `Without the library's start and one find, as measured with pkcs11js, opening takes ${rest(10)} ms with 10 objects and ${rest(10_000)} ms with 10,000.
The goal below cannot be reached on a token that searches all its objects.`;
}
