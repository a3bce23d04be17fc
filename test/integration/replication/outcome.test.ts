import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { InputError, type TokenObject, UnknownOutcomeError, type VirtualToken } from '../../../src/index.js';
import { CKO } from '../../../src/spec/codes.js';
import { Cluster, untilState } from '../../support/cluster.js';
import { provision } from '../../support/softhsm.js';
import { until } from '../../support/waiting.js';

let cluster: Cluster;
let token: VirtualToken;
beforeEach(async () => {
  cluster = await Cluster.form('outcome');
  token = await cluster.open();
});
afterEach(() => cluster.close());

/** Parsed record, as it stands on a token. */
interface Parsed {
  readonly kind?: unknown;
  readonly note?: unknown;
}

const key = (label: string): Promise<TokenObject> =>
  token.generateKey('AES_KEY_GEN', { token: true, label, valueLen: 32, encrypt: true });
const labels = async (): Promise<readonly string[]> => (await token.find()).map(({ label }) => label).sort();

describe('[Rule 20] a change whose caller gives up', () => {
  test('is told as done if it has happened, and as aborted only if nothing stays', async () => {
    const outcomes: [string, boolean][] = [];
    for (let i = 0; i < 40; i += 1) {
      const leaving = new AbortController();
      const making = token.generateKey(
        'AES_KEY_GEN',
        { token: true, label: `key ${i}`, valueLen: 32 },
        { signal: leaving.signal },
      );
      const wait = new Promise((resolve) => setTimeout(resolve, i % 20));
      void wait.then(() => leaving.abort());
      outcomes.push([
        `key ${i}`,
        await making.then(
          () => true,
          () => false,
        ),
      ]);
    }
    const made = outcomes.flatMap(([label, isMade]) => (isMade ? [label] : [])).sort();
    await until(
      async () => (await labels()).length === made.length,
      () => 'the aborted calls are undone',
    );
    expect(await labels()).toEqual(made);
    await cluster.untilTidy();
  });

  test('hears the outcome of a destroy that a member is just making', async () => {
    const made = await key('going');
    // Skips the call that belongs to the intent.
    cluster.fault('hsm1', 'C_DestroyObject delay=300 times=1 skip=1');
    const leaving = new AbortController();
    const destroying = token.destroyObject(made, { signal: leaving.signal });
    await until(
      () => cluster.met('hsm1').length > 0,
      () => 'a member destroys the key',
    );
    leaving.abort();
    await expect(destroying).resolves.toBeUndefined();
    expect(await labels()).toEqual([]);
  });

  test('hears at the deadline that the outcome of a destroy is unknown, and can ask later', async () => {
    const made = await key('late');
    cluster.fault('hsm1', 'C_DestroyObject delay=1200 times=1 skip=1');
    const error = await token.destroyObject(made, { deadline: 500 }).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(UnknownOutcomeError);
    const { operation, handles, code } = error as UnknownOutcomeError;
    expect([handles, code]).toEqual([[made.handle], 6]);
    await until(
      async () => (await token.outcomeOf(operation)) !== 'unknown',
      () => 'the outcome is known',
    );
    cluster.heal();
    await Promise.all(['hsm1', 'hsm2'].map((name) => untilState(token, name, 'active')));
    // The member may have answered in time for the change to go on; if not, the key is given back.
    const outcome = await token.outcomeOf(operation);
    const isDone = outcome === 'done';
    await cluster.untilTidy();
    expect(await labels()).toEqual(isDone ? [] : ['late']);
    // Also where the process that made the change has ended.
    await token.close();
    token = await cluster.open();
    expect(await token.outcomeOf(operation)).toBe(outcome);
  });
});

describe('outcomeOf', () => {
  test('knows the changes of other processes by their records, and no others', async () => {
    expect(await token.outcomeOf('0123456789abcdef')).toBe('unknown');
    await expect(token.outcomeOf('')).rejects.toBeInstanceOf(InputError);
  });

  test.each([
    ['begun', 'done', []],
    ['not begun', 'not done', ['K']],
  ])('tells what became of a destroy that was %s when its process ended', async (begun, outcome, left) => {
    await key('K');
    await token.close();
    const { values } = await provision(cluster.member('hsm1').hsm, { values: true });
    const records = values
      .filter((value) => value !== '')
      .map((value) => JSON.parse(Buffer.from(value, 'hex').toString()) as Parsed);
    const note = records.find(({ kind }) => kind === 'key')?.note;
    const intent = { version: 1, kind: 'intent', operation: 'ended', what: 'destroy', notes: [note], changes: [] };
    const ended = { ...intent, former: [], alone: false, writer: 'nobody', time: 1, expires: 0, missed: [] };
    const intended = {
      CLASS: CKO.data,
      TOKEN: true,
      PRIVATE: true,
      LABEL: 'pkcs11-ha:intent ended',
      APPLICATION: 'pkcs11-ha',
      VALUE: JSON.stringify(ended),
    };
    const longAgo = {
      ...intended,
      LABEL: 'pkcs11-ha:outcome old',
      APPLICATION: 'pkcs11-ha outcome',
      VALUE: JSON.stringify({ version: 1, kind: 'outcome', operation: 'old', isDone: true, time: 1 }),
    };
    await provision(cluster.member('hsm1').hsm, { objects: [intended, longAgo] });
    if (begun === 'begun') await provision(cluster.member('hsm2').hsm, { destroy: ['K'] });
    token = await cluster.open();
    for (const name of ['hsm1', 'hsm2']) await untilState(token, name, 'active');
    await cluster.untilTidy();
    expect(await labels()).toEqual(left);
    expect(await token.outcomeOf('ended')).toBe(outcome);
    const told = (await cluster.readOwn('hsm1')).filter((label) => label.startsWith('pkcs11-ha:outcome'));
    expect(told).toEqual(['pkcs11-ha:outcome ended']);
    await token.close();
    token = await cluster.open();
    expect(await token.outcomeOf('ended')).toBe(outcome);
  });
});
