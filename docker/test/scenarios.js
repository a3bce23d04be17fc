// Scenarios: outages of containers, with checks. Each `run` receives the stack and returns its measurements; `run`
// throws if a check fails.
import { deepEqual, equal, notEqual, ok } from 'node:assert/strict';

/** Number of operations during an outage, so that calls meet the outage. */
const OPERATIONS = 300;
/** States of a member that is away. */
const AWAY = ['suspect', 'down', 'joining'];
/** Time after every event: makes `untilState` look at a member's present state only. */
const NOW = Number.MAX_SAFE_INTEGER;

/** Summarizes the service's report. Throws if a call failed, unless no HSM could be reached at that time. */
function summarize(report, { member, begunAt, endedAt } = {}, unreachable = { from: 0, until: 0 }) {
  const { operations, failed, wrong, longest, failures, members } = report;
  equal(wrong, 0, `${wrong} operations gave a wrong result`);
  const unexcused = failures.filter(({ from, until }) => until < unreachable.from || from > unreachable.until);
  deepEqual(unexcused, [], `${failed} operations failed`);
  equal(failures.length, failed, 'the report lists fewer failures than it counts');
  ok(operations > 0, 'the service did no operations');
  const ofMember = members.filter((event) => event.member === member);
  const out = ofMember.find(({ from, at }) => from === 'active' && at >= begunAt)?.at;
  const back = ofMember.findLast(({ to }) => to === 'active')?.at;
  return {
    operations,
    failed,
    longest,
    ...(out === undefined ? {} : { out: out - begunAt }),
    ...(back === undefined || endedAt === undefined ? {} : { back: Math.max(0, back - endedAt) }),
  };
}

/** Waits until all members serve, and begins a new report. */
async function begin(stack, ...members) {
  await Promise.all(members.map((member) => stack.untilState(member, ['active'], NOW)));
  await stack.ask('mark');
}

/** Runs an outage: the member is lost by `lose` and returns by `end`, while the service works. */
async function outage(stack, member, lose, end, meanwhile = async () => undefined) {
  await begin(stack, 'hsm1', 'hsm2');
  const begunAt = Date.now();
  await lose();
  await stack.untilState(member, AWAY);
  await stack.ask('work', { operations: OPERATIONS });
  await meanwhile();
  await end();
  const endedAt = Date.now();
  await stack.untilState(member, ['active'], endedAt);
  await stack.ask('work', { operations: OPERATIONS });
  return summarize(await stack.ask('report'), { member, begunAt, endedAt });
}

const kill = (hsm) => (stack) =>
  outage(
    stack,
    hsm,
    () => stack.act('kill', hsm),
    () => stack.act('start', hsm),
  );

/** Kills p11-kit server with its processes for connections; the container keeps running. */
const endServer =
  'for p in /proc/[0-9]*; do case $(cat $p/comm 2>/dev/null) in p11-kit*) kill -9 $(basename $p) 2>/dev/null;; esac; done; true';

/** Checks that all these HSMs have the same keys; returns their labels. */
async function sameOn(stack, ...hsms) {
  const [first, ...others] = await Promise.all(hsms.map((hsm) => stack.labelsOn(hsm)));
  for (const other of others) deepEqual(other, first);
  return first;
}

const named = (prefix, count) => Array.from({ length: count }, (_, index) => `${prefix} ${index + 1}`);

export const scenarios = [
  {
    name: 'an application without a registered certificate gets nothing',
    run: async (stack) => {
      for (const { hsm, code, output } of await stack.lookAsStranger()) {
        notEqual(code, 0, `${hsm} served a client without a registered certificate: ${output}`);
        equal(output, '');
      }
      // Checks that the same program is served with a registered certificate.
      ok((await stack.labelsOn('hsm1')).length > 0);
      return {};
    },
  },
  { name: 'an HSM loses its power, and gets it back', run: kill('hsm1') },
  {
    name: 'an HSM hangs, and goes on',
    run: (stack) =>
      outage(
        stack,
        'hsm2',
        () => stack.act('pause', 'hsm2'),
        () => stack.act('unpause', 'hsm2'),
      ),
  },
  {
    name: 'an HSM is cut off the network, and connected again',
    run: (stack) =>
      outage(
        stack,
        'hsm1',
        () => stack.cutOff('hsm1'),
        () => stack.connect('hsm1'),
      ),
  },
  {
    name: "an HSM's p11-kit server restarts",
    run: (stack) =>
      outage(
        stack,
        'hsm2',
        () => stack.execute('hsm2', 'bash', '-c', endServer),
        async () => undefined,
      ),
  },
  {
    name: 'both HSMs restart at once',
    run: async (stack) => {
      await begin(stack, 'hsm1', 'hsm2');
      const begunAt = Date.now();
      await Promise.all(['hsm1', 'hsm2'].map((hsm) => stack.act('kill', hsm)));
      await Promise.all(['hsm1', 'hsm2'].map((hsm) => stack.untilState(hsm, ['down'])));
      await Promise.all(['hsm1', 'hsm2'].map((hsm) => stack.act('start', hsm)));
      const endedAt = Date.now();
      await Promise.all(['hsm1', 'hsm2'].map((hsm) => stack.untilState(hsm, ['active'], endedAt)));
      await stack.ask('work', { operations: OPERATIONS });
      const report = await stack.ask('report');
      const back = ['hsm1', 'hsm2'].map(
        (hsm) => report.members.findLast((event) => event.member === hsm && event.to === 'active').at,
      );
      const unreachable = { from: begunAt, until: Math.min(...back) };
      return summarize(report, { member: 'hsm1', begunAt, endedAt }, unreachable);
    },
  },
  {
    name: 'keys that are made and destroyed while an HSM is away are so on it when it is back',
    run: async (stack) => {
      const [kept, destroyed, made] = [named('kept', 2), named('destroyed', 2), named('made', 3)];
      await begin(stack, 'hsm1', 'hsm2');
      await stack.ask('make', { labels: [...kept, ...destroyed] });
      const measured = await outage(
        stack,
        'hsm2',
        () => stack.act('kill', 'hsm2'),
        () => stack.act('start', 'hsm2'),
        async () => {
          await stack.ask('make', { labels: made });
          await stack.ask('destroy', { labels: destroyed });
        },
      );
      const labels = await sameOn(stack, 'hsm1', 'hsm2');
      for (const label of [...kept, ...made]) ok(labels.includes(label), `${label} is missing`);
      for (const label of destroyed) ok(!labels.includes(label), `${label} still exists`);
      return measured;
    },
  },
  {
    name: 'a second service shares the lock folder, and is killed while both make keys',
    run: async (stack) => {
      const shared = named('shared', 12);
      await begin(stack, 'hsm1', 'hsm2');
      const begunAt = Date.now();
      await stack.startPeer();
      try {
        const [one, other] = await Promise.all(
          ['app', 'peer'].map((service) => stack.ask('ensure', { labels: shared }, service)),
        );
        deepEqual(other, one, 'the services have different keys for one label');
        const dying = stack.ask('make', { labels: named('of peer', 200) }, 'peer').catch(() => undefined);
        await stack.ask('make', { labels: named('beside', 3) });
        await stack.act('kill', 'peer');
        await dying;
        await stack.ask('make', { labels: named('after', 3) });
      } finally {
        await stack.removePeer();
      }
      await stack.ask('work', { operations: OPERATIONS });
      const labels = await sameOn(stack, 'hsm1', 'hsm2');
      for (const label of [...shared, ...named('beside', 3), ...named('after', 3)])
        equal(labels.filter((each) => each === label).length, 1, `${label} is not there once`);
      return summarize(await stack.ask('report'), { member: 'hsm1', begunAt });
    },
  },
  {
    name: 'an HSM is replaced by an empty one: remove, add, synchronize',
    run: async (stack) => {
      await begin(stack, 'hsm1', 'hsm2');
      const begunAt = Date.now();
      await stack.operate('member', 'remove', 'hsm2', '--wipe', '--yes');
      const token = ['--module', '/usr/lib/p11-kit-client.so', '--token-label', 'hsm3'];
      const address = 'P11_KIT_SERVER_ADDRESS=unix:path=/run/app/hsm3.sock';
      await stack.operate('member', 'add', 'hsm3', ...token, '--env', address);
      await stack.untilState('hsm3', ['active']);
      await stack.operate('synchronize', '--yes');
      await stack.ask('work', { operations: OPERATIONS });
      deepEqual(await stack.labelsOn('hsm2'), [], 'the removed HSM was not wiped');
      const labels = await sameOn(stack, 'hsm1', 'hsm3');
      ok(labels.includes('made 1'), 'the new HSM lacks a key');
      return summarize(await stack.ask('report'), { member: 'hsm3', begunAt, endedAt: begunAt });
    },
  },
  {
    name: 'the application restarts in the middle of a recovery',
    run: async (stack) => {
      const late = named('late', 30);
      await begin(stack, 'hsm1', 'hsm3');
      const begunAt = Date.now();
      await stack.act('kill', 'hsm3');
      await stack.untilState('hsm3', ['down']);
      await stack.ask('make', { labels: late });
      await stack.act('start', 'hsm3');
      await stack.untilState('hsm3', ['recovering']);
      const before = summarize(await stack.ask('report'), { member: 'hsm3', begunAt });
      await stack.act('kill', 'app');
      const killedAt = Date.now();
      await stack.act('start', 'app');
      await stack.untilServing();
      await stack.untilState('hsm3', ['active']);
      await stack.ask('work', { operations: OPERATIONS });
      const labels = await sameOn(stack, 'hsm1', 'hsm3');
      deepEqual(
        labels.filter((label) => label.startsWith('late')),
        [...late].sort(),
      );
      const after = summarize(await stack.ask('report'), { member: 'hsm3', begunAt: killedAt, endedAt: killedAt });
      return {
        ...after,
        operations: before.operations + after.operations,
        failed: before.failed + after.failed,
        longest: Math.max(before.longest, after.longest),
        out: before.out,
      };
    },
  },
];
