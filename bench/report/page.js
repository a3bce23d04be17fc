// docs/benchmarks.md.
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

export function page(bench, failures) {
  const { machine, scenarios } = bench;
  return `<!-- Written by bench/report. Change that, not this. -->
# Benchmarks

Measured on ${machine.processors} × ${machine.model}, ${machine.system}, Linux ${machine.kernel.split('-')[0]}, Node.js ${machine.node}, on ${machine.date}: a small shared
virtual machine, whose processors now and then are not there for it. So what counts are **ratios within one run**, in which all
contestants take turns; figures of their own are good for nothing but their order. Measure on yours:

    npm run bench                 throughput, latency, overhead, scaling, opening, generating, memory
    npm run bench:failover        what callers notice when a member fails
    npm run bench:report          both, and this page with its charts from them: about twenty minutes
    node bench/catch-up.js 5000   how long a member takes to catch up, and what calls notice of that: about half an hour

A group has two SoftHSM tokens as members where nothing else is said, the others use one of them straight. \`bench/README.md\` has how
it is measured.

## Throughput

Calls a second on token keys. pkcs11js asynchronous is the best of 1, 4, 8 and 16 sessions, with 16 threads in libuv's pool;
random numbers are synchronous there in any case.

![Throughput](benchmarks/throughput-${IN_FLIGHT}.svg)

${throughput(bench)}

With more and fewer calls in flight:

${inFlight(bench)}

## Synchronous calls

Through the pkcs11js face; times in µs.

${table(scenarios.latency.rows)}

## What a call costs beside the token

A module that does nothing; processor time is that of the application and its hosts, in µs.

${table(scenarios.overhead.rows)}

## More members

![Scaling](benchmarks/scaling.svg)

${scaling(bench)}

## Opening, and finding

Milliseconds. What the library itself takes is the same call through pkcs11js.

${table(scenarios.opening.rows)}

Opening looks for the group's record once on each member: who serves without having read it could serve from a token that was taken
out of the group. On SoftHSM one find takes as long as the token has objects, and initialising the library too, in both hosts at
once. ${openingLimit(scenarios.opening)} Nothing is enumerated.

## Making keys

Milliseconds a key. On the group a key is on all members when the call returns, with its record.

${table(scenarios.generating.rows)}

## Sessions

${table(scenarios.memory.rows)}

## Failover

Milliseconds. 64 callers with promises, or one that calls synchronously, sign with ECDSA; then one member of two fails. Calls that
met it were in flight then or came within a second. \`stayed in\`: no call that failed or was late showed it; a caller that waits for
each answer stays with one member for 32 calls.

![A host is killed](benchmarks/host-killed.svg)

![A library hangs](benchmarks/hang.svg)

${failover(failures)}

## Goals

${goals([...bench.goals, ...failures.goals])}
`;
}

/** How much of opening is neither the library's own start nor one find. */
function openingLimit({ rows }) {
  const rest = (objects) => {
    const of = (name) => rows.find((row) => row.objects === objects && row.name === name);
    return Math.round(of('ours').open - of('pkcs11js').open - of('pkcs11js')['first find']);
  };
  return `Less the library's start and one find, as pkcs11js takes for them, opening takes ${rest(10)} ms with 10 objects and ${rest(10_000)} ms with 10,000: so
the goal below cannot be reached on a token that is searched from end to end.`;
}
