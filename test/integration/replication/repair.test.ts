import { randomBytes } from 'node:crypto';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { GroupConfigInput, TokenObject, VirtualToken } from '../../../src/index.js';
import { Cluster, pidOf, quickPolicy, untilState } from '../../support/cluster.js';
import type { ReadObject } from '../../support/softhsm.js';

let cluster: Cluster;
afterEach(() => cluster.close());

const members = ['hsm1', 'hsm2'] as const;
const aes = { token: true, valueLen: 32, encrypt: true, extractable: true, sensitive: true };
const policy = (more: GroupConfigInput['policy']): GroupConfigInput =>
  cluster.configuration({ ...quickPolicy, ...more });
const two = { durability: 2 } as const;

async function form(name: string, more: GroupConfigInput['policy'] = {}): Promise<VirtualToken> {
  cluster = await Cluster.form(name);
  return await cluster.open(policy(more));
}

const key = (token: VirtualToken, label: string, more: object = {}): Promise<TokenObject> =>
  token.generateKey('AES_KEY_GEN', { ...aes, label, ...more });
const fails = async (call: Promise<unknown>): Promise<void> => {
  await expect(call).rejects.toThrow();
};
const active = (token: VirtualToken): Promise<unknown> =>
  Promise.all(members.map((name) => untilState(token, name, 'active')));
const labels = async (): Promise<string[][]> =>
  (await Promise.all(members.map((name) => cluster.read(name)))).map((objects: readonly ReadObject[]) =>
    objects.map(({ label }) => label).sort(),
  );

/** Takes a member away until `cluster.heal()`. */
async function takeAway(token: VirtualToken, name: string): Promise<void> {
  cluster.fault(name, 'C_Initialize return=0x30');
  process.kill(pidOf(token, name), 'SIGKILL');
  await untilState(token, name, 'down');
}

describe('a failed call', () => {
  test('to change a key leaves the key on a member that was lost with it', async () => {
    const token = await form('repair-set', two);
    const made = await key(token, 'key');
    cluster.fault('hsm2', 'C_SetAttributeValue exit=9 times=1 when=after');
    await fails(token.setAttributes(made, { label: 'renamed' }));
    cluster.heal();
    await active(token);
    expect(await labels()).toEqual([['key'], ['key']]);
    expect((await token.find({ label: 'key' })).map(({ handle }) => handle)).toEqual([made.handle]);
  });

  test('to copy a key leaves the original on a member that was lost with it', async () => {
    const token = await form('repair-copy', { ...two, balance: 'primary' });
    const made = await key(token, 'key');
    cluster.fault('hsm2', 'C_CopyObject exit=9 times=1');
    await fails(token.copyObject(made, {}));
    cluster.heal();
    await active(token);
    expect(await labels()).toEqual([['key'], ['key']]);
  });

  test('to create an equal object leaves the former object', async () => {
    const token = await form('repair-had', { ...two, balance: 'primary' });
    const value = randomBytes(64);
    const data = { class: 'DATA', token: true, private: true, label: 'data', value };
    await token.createObject(data);
    cluster.fault('hsm2', 'C_CreateObject exit=9 times=1');
    await fails(token.createObject(data));
    cluster.heal();
    await active(token);
    const [, second] = await labels();
    expect(second).toContain('data');
  });

  test('to destroy a key leaves it', async () => {
    const token = await form('repair-destroy');
    await key(token, 'key');
    const made = await token.get({ label: 'key' });
    // Ends hsm1's host just after it wrote the intent; hsm2 refuses the intent.
    cluster.fault('hsm1', 'C_CopyObject exit=9 times=1 when=after');
    cluster.fault('hsm2', 'C_CopyObject return=0x13 times=1');
    await fails(token.destroyObject(made));
    cluster.heal();
    await active(token);
    expect(await labels()).toEqual([['key'], ['key']]);
    await token.close();
    await (await cluster.open()).close();
    expect(await labels()).toEqual([['key'], ['key']]);
  });
});

describe('a member', () => {
  test('that fails a call where others succeed catches up', async () => {
    const token = await form('repair-error');
    cluster.fault('hsm2', 'C_CopyObject return=0x5 times=1');
    await key(token, 'key');
    await untilState(token, 'hsm2', 'suspect', 'down', 'joining', 'recovering');
    cluster.heal();
    await active(token);
    expect(await labels()).toEqual([['key'], ['key']]);
  });

  test.each(members)('[Rule 16] %s that was away is in step when the group is opened again', async (name) => {
    const token = await form('repair-anew');
    const gone = await key(token, 'gone');
    const renamed = await key(token, 'old');
    await takeAway(token, name);
    await key(token, 'made');
    await key(token, 'guarded', { extractable: false });
    await token.destroyObject(gone);
    await token.setAttributes(renamed, { label: 'new' });
    await token.close();
    cluster.heal();
    const again = await cluster.open();
    await active(again);
    const expected = ['guarded', 'made', 'new'];
    expect(await labels()).toEqual([expected, expected]);
    expect((await again.find({ label: 'new' })).map(({ handle }) => handle)).toEqual([renamed.handle]);
    expect(await again.find({ label: 'gone' })).toEqual([]);
    await cluster.untilTidy();
  });

  test('that was away gets a non-extractable copy, and a key that became non-extractable', async () => {
    const token = await form('repair-sealed');
    const made = await key(token, 'key');
    await takeAway(token, 'hsm2');
    await token.copyObject(made, { label: 'copy', extractable: false });
    const later = await key(token, 'later');
    await token.setAttributes(later, { extractable: false });
    cluster.heal();
    await active(token);
    const expected = ['copy', 'key', 'later'];
    expect(await labels()).toEqual([expected, expected]);
    for (const name of members) {
      const guarded = (await cluster.read(name)).filter(({ label }) => label !== 'key');
      expect(guarded.map(({ wrapped }) => wrapped)).toEqual(['CKR_KEY_UNEXTRACTABLE', 'CKR_KEY_UNEXTRACTABLE']);
    }
  });
});

test('a destroy succeeds although its last member takes longer than the deadline', async () => {
  const token = await form('repair-late');
  const made = await key(token, 'key');
  cluster.fault('hsm2', 'C_DestroyObject delay=1500 times=1');
  await token.destroyObject(made, { deadline: 1000 });
  cluster.heal();
  await active(token);
  expect(await token.find({ label: 'key' })).toEqual([]);
  await token.close();
  expect(await labels()).toEqual([[], []]);
});

test.each(['copyable', 'modifiable', 'destroyable'])(
  'an object that is not %s is created on all members',
  async (flag) => {
    const token = await form(`repair-${flag}`, { deadline: 5000 });
    const made = await token.createObject({
      class: 'DATA',
      token: true,
      private: true,
      label: 'data',
      value: Buffer.from('x'),
      [flag]: false,
    });
    expect(await token.getAttributes(made, [flag])).toEqual({ [flag]: false });
    const guarded = await key(token, 'key', { [flag]: false });
    expect(await token.getAttributes(guarded, [flag])).toEqual({ [flag]: false });
    expect(await labels()).toEqual([
      ['data', 'key'],
      ['data', 'key'],
    ]);
  },
);

test('of two createGroup calls at once on the same tokens at most one succeeds', async () => {
  cluster = await Cluster.make('repair-both', [[], []]);
  const { createGroup } = await import('../../../src/index.js');
  const formed = await Promise.allSettled([
    createGroup(cluster.configuration({})),
    createGroup(cluster.configuration({})),
  ]);
  expect(formed.filter(({ status }) => status === 'fulfilled').length).toBeLessThan(2);
  for (const name of members) {
    const own = (await cluster.readOwn(name)).filter((label) => label === 'pkcs11-ha:group');
    expect(own.length).toBe(formed.filter(({ status }) => status === 'fulfilled').length);
  }
});

test('copies of one key keep their handles and their flags', async () => {
  const token = await form('repair-copies');
  const originals: TokenObject[] = [];
  const copies: TokenObject[] = [];
  for (const label of ['a', 'b', 'c']) {
    const original = await key(token, label);
    originals.push(original);
    copies.push(await token.copyObject(original, { extractable: false }));
  }
  const expectEach = async (own: VirtualToken): Promise<void> => {
    await own.find();
    for (const [list, extractable] of [
      [originals, true],
      [copies, false],
    ] as const) {
      for (const { handle } of list) {
        for (let i = 0; i < 3; i += 1)
          expect(await own.getAttributes(handle, ['extractable'])).toEqual({ extractable });
      }
    }
  };
  await expectEach(token);
  const other = await cluster.open();
  expect((await other.find()).map(({ handle }) => handle).sort()).toEqual(
    [...originals, ...copies].map(({ handle }) => handle).sort(),
  );
  await expectEach(other);
  await other.destroyObject(originals[0] as TokenObject);
  await other.destroyObject(copies[1] as TokenObject);
  const [one, second] = await Promise.all(members.map((name) => cluster.read(name)));
  expect(one).toEqual(second);
  expect(one?.map(({ label, flags }) => `${label} ${flags.includes('EXTRACTABLE')}`).sort()).toEqual(
    ['a false', 'b true', 'c false', 'c true'].sort(),
  );
});

describe('a member that returns', () => {
  test('[Rule 16] gets no object that was destroyed meanwhile', async () => {
    const token = await form('repair-meanwhile');
    const before = await key(token, 'before');
    await takeAway(token, 'hsm2');
    await token.destroyObject(await key(token, 'between'));
    await token.destroyObject(before);
    cluster.heal();
    await untilState(token, 'hsm2', 'active');
    expect(await token.find()).toEqual([]);
    expect(await labels()).toEqual([[], []]);
    await cluster.untilTidy();
    for (const each of members)
      expect((await cluster.readOwn(each)).filter((label) => label.includes('key'))).toEqual([]);
  });

  test('undoes a change that the others have refused', async () => {
    const token = await form('repair-refused');
    const made = await key(token, 'key');
    cluster.fault('hsm1', 'C_SetAttributeValue exit=9 times=1 when=after');
    cluster.fault('hsm2', 'C_SetAttributeValue return=0x10 times=1');
    await expect(token.setAttributes(made, { label: 'renamed' })).rejects.toMatchObject({ code: 0x10 });
    cluster.heal();
    await active(token);
    expect(await labels()).toEqual([['key'], ['key']]);
    // Expects no new host: the member has nothing left to undo. A busy machine may make a member suspect for a moment.
    const { length } = token.status().members;
    const moves: string[] = [];
    token.on('member', ({ member, to }) => {
      if (to === 'down' || to === 'joining') moves.push(`${member} ${to}`);
    });
    for (let i = 0; i < 5; i += 1) {
      expect((await token.find()).length).toBe(1);
      await token.encrypt('AES_ECB', made, Buffer.alloc(16));
    }
    expect([length, moves]).toEqual([2, []]);
    await cluster.untilTidy();
  });

  test('gets back a key that the others have refused to destroy', async () => {
    const token = await form('repair-kept');
    const made = await key(token, 'key');
    const block = randomBytes(16);
    const text = await token.encrypt('AES_ECB', made, block);
    cluster.fault('hsm1', 'C_DestroyObject exit=9 times=1 skip=1 when=after');
    cluster.fault('hsm2', 'C_DestroyObject return=0x1b times=1');
    await expect(token.destroyObject(made)).rejects.toMatchObject({ code: 0x1b });
    cluster.heal();
    await active(token);
    expect(await labels()).toEqual([['key'], ['key']]);
    for (let i = 0; i < 4; i += 1) expect(await token.encrypt('AES_ECB', made, block)).toEqual(text);
  });
});
