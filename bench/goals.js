// Goals for the figures of `npm run bench`.
import { atLeast, atMost } from './lib/goal.js';

const rateOf = (rows, name) => rows.find((row) => row.name === name)?.rate;
const bestAsyncOf = (rows) =>
  Math.max(...rows.filter(({ name }) => name.startsWith('pkcs11js async')).map(({ rate }) => rate));

function throughputGoals({ rows }) {
  const of = (operation) => rows.filter((row) => row.operation === operation);
  const ours = (operation) => rateOf(of(operation), 'ours, 64 in flight');
  const against = (operation, goal) =>
    atLeast(
      `${operation}, 64 in flight, × pkcs11js asynchronous at its best`,
      goal,
      ours(operation) / bestAsyncOf(of(operation)),
    );
  const againstC = (operation, goal) =>
    atLeast(
      `${operation}, 64 in flight, × C with 2 threads`,
      goal,
      ours(operation) / rateOf(of(operation), 'C, 2 threads'),
    );
  return [
    against('AES-256-CBC 1 KiB', 1.6),
    against('HMAC-SHA256', 1.4),
    against('ECDSA P-256', 1.2),
    againstC('ECDSA P-256', 0.9),
    against('RSA-2048', 1),
    againstC('RSA-2048', 0.95),
  ];
}

function overheadGoals({ rows }) {
  const row = (name) => rows.find((each) => each.name === name);
  const ours = row('ours, 64 in flight');
  return [
    atLeast('empty module, 64 in flight, × pkcs11js asynchronous at its best', 2.5, ours.rate / bestAsyncOf(rows)),
    atMost(
      'empty module, processor time a call, × an empty pair through pkcs11js synchronous',
      10,
      ours.processor / row('pkcs11js sync').processor,
    ),
  ];
}

function latencyGoals({ rows }) {
  const of = (name) => rows.find((row) => row.operation === 'ECDSA P-256' && row.name === name)?.p50;
  return [atMost('synchronous ECDSA P-256, × pkcs11js synchronous', 1.25, of('ours') / of('pkcs11js sync'))];
}

function scalingGoals({ rows }) {
  const goals = { '2 members': 1.97, '4 members': 3.9, '8 members': 7.6 };
  return Object.entries(goals).map(([name, goal]) =>
    atLeast(`2 ms HSM, ${name}, × 1 member`, goal, rateOf(rows, name) / rateOf(rows, '1 member')),
  );
}

/** Judges the time of opening without the library's own time. */
function openingGoals({ rows }) {
  const more = (objects) => {
    const of = (name) => rows.find((row) => row.objects === objects && row.name === name).open;
    return of('ours') - of('pkcs11js');
  };
  return [atMost("opening with 10,000 objects, less the library's own part, × with 10", 1.2, more(10_000) / more(10))];
}

const judges = {
  opening: openingGoals,
  throughput: throughputGoals,
  overhead: overheadGoals,
  latency: latencyGoals,
  scaling: scalingGoals,
};

/** Judges the goals of the scenarios that were run. */
export function judgeGoals(scenarios) {
  return Object.entries(scenarios).flatMap(([name, scenario]) => judges[name]?.(scenario) ?? []);
}
