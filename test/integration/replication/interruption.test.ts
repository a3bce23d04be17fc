import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { UnknownOutcomeError, type VirtualToken } from '../../../src/index.js';
import { boundaries, isEveryBoundary } from '../../support/boundaries.js';
import { Cluster, untilState } from '../../support/cluster.js';
import { startService } from '../../support/process.js';
import { type Operation, prepare, run } from '../../support/programs/operations.js';
import type { ReadObject } from '../../support/softhsm.js';
import { until } from '../../support/waiting.js';

const LONGEST = isEveryBoundary ? 1_800_000 : 60_000;
/** Sample of boundaries; `sure` is the smallest number of calls of a change, those of a destroy. */
const sample = { stride: 40, sure: 8 } as const;

let cluster: Cluster;
beforeEach(async () => {
  cluster = await Cluster.form('interruption');
});
afterEach(() => cluster.close());

interface Case {
  readonly name: Operation;
  /** Number of objects by label that each token must have, after a success or a failure. */
  readonly outcome: (label: string, succeeded: boolean) => Readonly<Record<string, number>>;
}

const cases: readonly Case[] = [
  { name: 'generate', outcome: (label, succeeded) => ({ [label]: succeeded ? 1 : 0 }) },
  { name: 'generatePair', outcome: (label, succeeded) => ({ [label]: succeeded ? 2 : 0 }) },
  { name: 'create', outcome: (label, succeeded) => ({ [label]: succeeded ? 1 : 0 }) },
  {
    name: 'set',
    outcome: (label, succeeded) => ({ [label]: succeeded ? 0 : 1, [`${label} renamed`]: succeeded ? 1 : 0 }),
  },
  { name: 'destroy', outcome: (label, succeeded) => ({ [label]: succeeded ? 0 : 1 }) },
];

const counted = (objects: readonly ReadObject[], label: string): number =>
  objects.filter((object) => object.label === label).length;
const ofLabel = (objects: readonly ReadObject[], prefix: string): readonly ReadObject[] =>
  objects
    .filter(({ label }) => label.startsWith(prefix))
    .sort((a, b) => (a.label + a.class < b.label + b.class ? -1 : 1));

const isHollow = ({ class: objectClass, flags }: ReadObject): boolean => objectClass < 0 || !flags.includes('TOKEN');

/** Waits until nothing of a call is left: no intent, no journal entry, no partial object. */
async function expectSettled(): Promise<void> {
  const token = await cluster.open();
  for (const name of ['hsm1', 'hsm2']) {
    await cluster.untilTidy([name]);
    expect(await cluster.readOwn(name)).not.toContain('pkcs11-ha:probe');
    // Waits for the removal of partial objects, which a host leaves that ends in a write with its application.
    const isWhole = async (): Promise<boolean> => !(await cluster.read(name)).some(isHollow);
    await until(isWhole, () => `${name} has no partial object`);
  }
  await token.close();
}

/** Expects that both tokens, read apart from the group, hold equal objects in the expected numbers. */
async function expectAlike(prefix: string, expected: Readonly<Record<string, number>>): Promise<void> {
  await expectSettled();
  const [one = [], two = []] = await Promise.all(['hsm1', 'hsm2'].map((each) => cluster.read(each)));
  const counts = (objects: readonly ReadObject[]): object =>
    Object.fromEntries(Object.keys(expected).map((label) => [label, counted(objects, label)]));
  expect(counts(one)).toEqual(expected);
  expect(counts(two)).toEqual(expected);
  expect(ofLabel(one, `${prefix} `)).toEqual(ofLabel(two, `${prefix} `));
}

/** Allows either outcome if the caller got no answer, but the same on both; adds the outcome to `expected`. */
async function expectEither(
  prefix: string,
  expected: Record<string, number>,
  told: Readonly<Record<string, readonly number[]>>,
): Promise<void> {
  const found = await cluster.read('hsm1');
  for (const [label, either] of Object.entries(told)) {
    const count = counted(found, label);
    expect(either).toContain(count);
    expected[label] = count;
  }
  await expectAlike(prefix, expected);
}

/** Removes checked objects: each more object means more calls of a change, so that the boundaries would never end. */
async function clear(token: VirtualToken, expected: Record<string, number>): Promise<void> {
  for (const label of Object.keys(expected)) {
    if (expected[label] === 0) continue;
    for (const object of await token.find({ label })) await token.destroyObject(object);
    expected[label] = 0;
  }
  await cluster.untilTidy();
}

describe.each(['hsm1', 'hsm2'])('the host of %s ends at a call', (victim) => {
  test.each(cases)(
    '[Rule 15] of $name: all members have the change, or none',
    async ({ name, outcome }) => {
      const expected: Record<string, number> = {};
      let told: Record<string, readonly number[]> = {};
      let ends = 0;
      for (const skip of boundaries(sample.stride, sample.sure)) {
        const label = `${name} ${victim} ${skip}`;
        // Opens a new token, since a member that is lost again and again rests longer each time.
        const token = await cluster.open();
        const prepared = await prepare(token, name, label);
        const met = cluster.met(victim).length;
        cluster.fault(victim, `* exit=9 times=1 skip=${skip}`);
        const error: unknown = await run(token, name, label, prepared).then(
          () => undefined,
          (reason: unknown) => reason,
        );
        const hasEnded = cluster.met(victim).length > met;
        cluster.heal();
        const [yes, no] = [outcome(label, true), outcome(label, false)];
        // Either outcome may follow if the caller was told that it is unknown.
        if (!(error instanceof UnknownOutcomeError)) Object.assign(expected, error === undefined ? yes : no);
        else for (const each of Object.keys(yes)) told[each] = [yes[each] ?? 0, no[each] ?? 0];
        await Promise.all(['hsm1', 'hsm2'].map((each) => untilState(token, each, 'active')));
        if (isEveryBoundary) {
          await cluster.untilTidy();
          await expectEither(name, expected, told);
          await clear(token, expected);
          told = {};
        }
        await token.close();
        if (!hasEnded) break;
        ends += 1;
      }
      expect(ends).toBeGreaterThan(0);
      await expectEither(name, expected, told);
    },
    LONGEST,
  );
});

describe.each(['hsm1', 'hsm2'])('the application ends at a call of %s', (where) => {
  test.each(cases)(
    '[Rule 15] of $name: all members have the change, or none, when the group is opened again',
    async ({ name, outcome }) => {
      const expected: Record<string, number> = {};
      let told: Record<string, readonly number[]> = {};
      let ends = 0;
      for (const skip of boundaries(sample.stride, sample.sure)) {
        const label = `${name} ${where} ${skip}`;
        const service = startService(`change:${name}:${label}`, cluster.configuration(), 'pipe');
        // Waits until the service is ready; it then waits for the signal, which follows the fault.
        await service.told;
        const met = cluster.met(where).length;
        cluster.fault(where, `* orphan times=1 skip=${skip}`);
        service.child.stdin?.write('go\n');
        const { code } = await service.ended;
        const hasEnded = cluster.met(where).length > met;
        cluster.heal();
        const token = await cluster.open();
        await Promise.all(['hsm1', 'hsm2'].map((each) => untilState(token, each, 'active')));
        const [yes, no] = [outcome(label, true), outcome(label, false)];
        // Expects success if the service was told so; otherwise either outcome, but the same on both.
        if (code === 0) Object.assign(expected, yes);
        else for (const each of Object.keys(yes)) told[each] = [yes[each] ?? 0, no[each] ?? 0];
        if (isEveryBoundary) {
          await cluster.untilTidy();
          await expectEither(name, expected, told);
          await clear(token, expected);
          told = {};
        }
        await token.close();
        if (!hasEnded) break;
        ends += 1;
      }
      expect(ends).toBeGreaterThan(0);
      await expectEither(name, expected, told);
    },
    LONGEST,
  );
});

test.each([
  ['hsm1', 'data'],
  ['hsm2', 'data renamed'],
])('[Rule 27] a rename that its application did not end on %s keeps the handle', async (where, label) => {
  const service = startService('change:setData:data', cluster.configuration(), 'pipe');
  await service.told;
  let token = await cluster.open();
  const [before] = await token.find({ label: 'data' });
  await token.close();
  cluster.fault(where, 'C_SetAttributeValue orphan times=1');
  service.child.stdin?.write('go\n');
  await service.ended;
  cluster.heal();
  token = await cluster.open();
  await Promise.all(['hsm1', 'hsm2'].map((each) => untilState(token, each, 'active')));
  expect(await token.find({ label })).toEqual([before && { ...before, label }]);
  await expectSettled();
  await token.close();
  // In a process that has seen nothing of it too.
  token = await cluster.open();
  expect(await token.find({ label })).toEqual([before && { ...before, label }]);
  await token.close();
});
