import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { TokenObject, VirtualToken } from '../../src/index.js';
import { Cluster, untilState } from '../support/cluster.js';
import type { ReadObject } from '../support/softhsm.js';

/** All boundaries take minutes: `npm test` takes a sample, another one each time. */
const every = process.env.EVERY_BOUNDARY === undefined ? 5 : 1;
const first = process.env.EVERY_BOUNDARY === undefined ? Math.floor(Math.random() * every) : 0;

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.form('interruption');
});
afterAll(() => cluster.close());

const aes = { token: true, valueLen: 32, encrypt: true, extractable: false, sensitive: true };
const paramsEC = Buffer.from('06082a8648ce3d030107', 'hex');

interface Case {
  readonly name: string;
  /** What is there before. */
  readonly prepare?: (token: VirtualToken, label: string) => Promise<TokenObject>;
  readonly run: (token: VirtualToken, label: string, prepared: TokenObject | undefined) => Promise<unknown>;
  /** Labels with what each token has to have, after a success and after a failure. */
  readonly after: (label: string, succeeded: boolean) => Readonly<Record<string, number>>;
}

const key = (token: VirtualToken, label: string): Promise<TokenObject> =>
  token.generateKey('AES_KEY_GEN', { ...aes, label });
const cases: readonly Case[] = [
  {
    name: 'generate',
    run: key,
    after: (label, succeeded) => ({ [label]: succeeded ? 1 : 0 }),
  },
  {
    name: 'generate a pair',
    run: (token, label) =>
      token.generateKeyPair(
        'EC_KEY_PAIR_GEN',
        { token: true, label, paramsEC, verify: true },
        { token: true, label, sign: true, extractable: true },
      ),
    after: (label, succeeded) => ({ [label]: succeeded ? 2 : 0 }),
  },
  {
    name: 'create',
    run: (token, label) =>
      token.createObject({ class: 'DATA', token: true, private: true, label, value: Buffer.from(label) }),
    after: (label, succeeded) => ({ [label]: succeeded ? 1 : 0 }),
  },
  {
    name: 'set',
    prepare: key,
    run: (token, label, prepared) => token.setAttributes(prepared as TokenObject, { label: `${label} renamed` }),
    after: (label, succeeded) => ({ [label]: succeeded ? 0 : 1, [`${label} renamed`]: succeeded ? 1 : 0 }),
  },
  {
    name: 'destroy',
    prepare: key,
    run: (token, _label, prepared) => token.destroyObject(prepared as TokenObject),
    after: (label, succeeded) => ({ [label]: succeeded ? 0 : 1 }),
  },
];

const counted = (objects: readonly ReadObject[], label: string): number =>
  objects.filter((object) => object.label === label).length;
const ofLabel = (objects: readonly ReadObject[], prefix: string): readonly ReadObject[] =>
  objects
    .filter(({ label }) => label.startsWith(prefix))
    .sort((a, b) => (a.label + a.class < b.label + b.class ? -1 : 1));

/** Nothing of a call that is under way is left: no intent, no entry of the journal, no hollow object. */
async function expectSettled(name: string): Promise<void> {
  const own = await cluster.readOwn(name);
  expect(own.filter((label) => /intent|journal|probe/u.test(label))).toEqual([]);
  expect((await cluster.read(name)).filter((object) => object.class < 0 || !object.flags.includes('TOKEN'))).toEqual(
    [],
  );
}

describe.each(['hsm1', 'hsm2'])('the host of %s ends at a call', (victim) => {
  test.each(cases)('of $name: all members have it, or none', async ({ name, prepare, run, after }) => {
    const expected: Record<string, number> = {};
    let ends = 0;
    for (let skip = first; ; skip += every) {
      const label = `${name} ${victim} ${skip}`;
      // Opened anew: a member that is lost again and again is left alone for longer each time.
      const token = await cluster.open();
      const prepared = await prepare?.(token, label);
      const met = cluster.met(victim).length;
      cluster.fault(victim, `* exit=9 times=1 skip=${skip}`);
      const succeeded = await run(token, label, prepared).then(
        () => true,
        () => false,
      );
      const hasEnded = cluster.met(victim).length > met;
      cluster.heal();
      Object.assign(expected, after(label, succeeded));
      await Promise.all(['hsm1', 'hsm2'].map((each) => untilState(token, each, 'active')));
      await token.close();
      if (!hasEnded) break;
      ends += 1;
    }
    expect(ends).toBeGreaterThan(2);
    const [one = [], two = []] = await Promise.all(['hsm1', 'hsm2'].map((each) => cluster.read(each)));
    const counts = (objects: readonly ReadObject[]): object =>
      Object.fromEntries(Object.keys(expected).map((label) => [label, counted(objects, label)]));
    expect(counts(one)).toEqual(expected);
    expect(counts(two)).toEqual(expected);
    expect(ofLabel(one, `${name} `)).toEqual(ofLabel(two, `${name} `));
    for (const each of ['hsm1', 'hsm2']) await expectSettled(each);
  });
});
