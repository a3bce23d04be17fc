import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { TokenError, type VirtualToken } from '../../../src/index.js';
import { Cluster, pidOf, untilState } from '../../support/cluster.js';
import { until } from '../../support/waiting.js';

let cluster: Cluster;
beforeEach(async () => {
  // Makes three tokens, of which the first two form the group.
  cluster = await Cluster.form('applications', [[], [], []], 2);
});
afterEach(() => cluster.close());

type Configuration = ReturnType<Cluster['configuration']>;

/** Policy with a long limit for writes, since making key pairs takes seconds. */
const policy = { hangAfter: 400, writeHangAfter: 10_000, deadline: 20_000, freshness: 300 } as const;
const aes = { token: true, valueLen: 32, encrypt: true, decrypt: true, sensitive: true, extractable: false };
const data = Buffer.from('sixteen bytes...');

function third(): Configuration['members'][number] {
  const [, , member] = cluster.configuration(policy).members;
  if (member === undefined) throw new Error('three members');
  return member;
}

async function openTwice(): Promise<readonly [VirtualToken, VirtualToken]> {
  const configuration = cluster.configuration(policy);
  return [await cluster.open(configuration), await cluster.open(configuration)];
}

async function lose(name: string, ...tokens: readonly VirtualToken[]): Promise<void> {
  cluster.fault(name, 'C_Initialize return=0x30');
  for (const token of tokens) {
    process.kill(pidOf(token, name), 'SIGKILL');
    await untilState(token, name, 'down');
  }
}

async function bringBack(name: string, ...tokens: readonly VirtualToken[]): Promise<void> {
  cluster.fault(name);
  for (const token of tokens) await untilState(token, name, 'active');
}

async function labelsOn(name: string): Promise<readonly string[]> {
  return (await cluster.read(name)).map(({ label, id }) => `${label} ${id}`).sort();
}

describe('two applications', () => {
  test('[Rule 14] find a key that the other one made just before they made a key themselves', async () => {
    const [one, other] = await openTwice();
    for (let round = 0; round < 3; round += 1) {
      const made = await one.generateKey('AES_KEY_GEN', { ...aes, label: `one ${round}` });
      await other.generateKey('AES_KEY_GEN', { ...aes, label: `other ${round}` });
      expect(await other.encrypt('AES_ECB', made.handle, data)).toEqual(await one.encrypt('AES_ECB', made, data));
    }
    expect((await other.find()).map(({ handle }) => handle).sort()).toEqual(
      (await one.find()).map(({ handle }) => handle).sort(),
    );
  });

  test('use a key that the other one has renamed, while a member is away', async () => {
    const [one, other] = await openTwice();
    const { handle } = await one.generateKey('AES_KEY_GEN', { ...aes, label: 'before' });
    const result = await other.encrypt('AES_ECB', handle, data);
    await lose('hsm2', one, other);
    // Ends also the host that has proven the key under its old name.
    await one.setAttributes(handle, { label: 'after' });
    process.kill(pidOf(other, 'hsm1'), 'SIGKILL');
    await untilState(other, 'hsm1', 'down', 'joining');
    expect(await other.encrypt('AES_ECB', handle, data, { deadline: 5000 })).toEqual(result);
  });

  test('destroy a key that the other one has renamed, although sessions are lost during the call', async () => {
    const [one, other] = await openTwice();
    const { handle } = await one.generateKey('AES_KEY_GEN', { ...aes, label: 'before' });
    for (let i = 0; i < 4; i += 1) await other.encrypt('AES_ECB', handle, data);
    await one.setAttributes(handle, { label: 'after' });
    for (const name of ['hsm1', 'hsm2']) cluster.fault(name, 'C_DestroyObject drop times=1');
    await other.destroyObject(handle);
    cluster.heal();
    for (const name of ['hsm1', 'hsm2']) expect(await labelsOn(name)).toEqual([]);
  });

  test('[Rule 11] find a key under one handle while it is renamed again and again', async () => {
    const [one, other] = await openTwice();
    const { handle } = await one.generateKey('AES_KEY_GEN', { ...aes, label: 'here' });
    const result = await one.encrypt('AES_ECB', handle, data);
    for (const label of ['there', 'here', 'there', 'here', 'there', 'here']) {
      let isRenaming = true;
      const renaming = one.setAttributes(handle, { label }).finally(() => {
        isRenaming = false;
      });
      while (isRenaming) {
        const found = await Promise.all([one, other].map((token) => token.find({ class: 'SECRET_KEY' })));
        expect(found.map((objects) => objects.map((object) => object.handle))).toEqual([[handle], [handle]]);
      }
      await renaming;
      for (const token of [one, other]) expect(await token.encrypt('AES_ECB', handle, data)).toEqual(result);
    }
  });

  test('set one attribute each: a new member gets the key with both, under its handle', async () => {
    const [one, other] = await openTwice();
    const key = await one.generateKey('AES_KEY_GEN', { ...aes, label: 'old', id: Buffer.from([1]) });
    const result = await one.encrypt('AES_ECB', key, data);
    // Lets the other application read the key's record first.
    await other.getAttributes(key.handle, ['label', 'id', 'sensitive']);
    await one.setAttributes(key, { id: Buffer.from([2]) });
    await other.setAttributes(key.handle, { label: 'new' });
    await one.addMember(third());
    for (const name of ['hsm1', 'hsm2', 'hsm3']) expect(await labelsOn(name)).toEqual(['new 02']);
    const alone = await cluster.open({ ...cluster.configuration(policy), members: [third()] });
    expect(await alone.encrypt('AES_ECB', key.handle, data)).toEqual(result);
  });

  test('[Rule 11] rename a key in turns: it keeps its handle, also in a third application', async () => {
    const [one, other] = await openTwice();
    const { handle } = await one.generateKey('AES_KEY_GEN', { ...aes, label: 'first' });
    const result = await one.encrypt('AES_ECB', handle, data);
    await one.setAttributes(handle, { label: 'second' });
    await other.setAttributes(handle, { label: 'third' });
    await one.setAttributes(handle, { label: 'second' });
    const later = await cluster.open(cluster.configuration(policy));
    expect((await later.find()).map((object) => object.handle)).toEqual([handle]);
    expect(await later.encrypt('AES_ECB', handle, data)).toEqual(result);
  });

  test('[Rule 27] destroy a key and make another one of its name: the old handle is void in both, the new one is the new key, also while a member is away', async () => {
    const [one, other] = await openTwice();
    const attributes = { ...aes, label: 'rotated', id: Buffer.from([3]) };
    const { handle } = await one.generateKey('AES_KEY_GEN', attributes);
    const old = await other.encrypt('AES_ECB', handle, data);
    await lose('hsm2', one, other);
    await one.destroyObject(handle);
    const successor = await one.generateKey('AES_KEY_GEN', attributes);
    const result = await one.encrypt('AES_ECB', successor, data);
    expect(result).not.toEqual(old);
    for (const token of [one, other])
      await expect(token.encrypt('AES_ECB', handle, data, { deadline: 2000 })).rejects.toBeInstanceOf(TokenError);
    expect(await other.encrypt('AES_ECB', successor.handle, data, { deadline: 5000 })).toEqual(result);
    expect((await other.find({ label: 'rotated' })).map((found) => found.handle)).toEqual([successor.handle]);
    await bringBack('hsm2', one, other);
    expect(await cluster.read('hsm2')).toEqual(await cluster.read('hsm1'));
  });

  test('[Rule 11] use a name again: the new key has one handle in both, whatever they knew of the old key', async () => {
    const [one, other] = await openTwice();
    const template = { ...aes, label: 'name', id: Buffer.from('id') };
    const first = await one.generateKey('AES_KEY_GEN', template);
    // Lets the other application find the key before its rename only.
    expect(await other.find({ label: 'name' })).toEqual([first]);
    await other.setAttributes(first, { label: 'other name' });
    await one.find();
    await one.destroyObject(first);
    const second = await one.generateKey('AES_KEY_GEN', template);
    const result = await one.encrypt('AES_ECB', second, data);
    expect((await other.find({ label: 'name' })).map(({ handle }) => handle)).toEqual([second.handle]);
    expect(await other.encrypt('AES_ECB', second.handle, data)).toEqual(result);
  });

  test('find the copy of a destroyed key under its own handle, also if they knew only the key', async () => {
    const [one, other] = await openTwice();
    const template = { ...aes, label: 'copied', id: Buffer.from('id') };
    const key = await one.generateKey('AES_KEY_GEN', template);
    expect(await other.find({ label: 'copied' })).toEqual([key]);
    const copy = await one.copyObject(key, { label: 'copied' });
    const result = await one.encrypt('AES_ECB', copy, data);
    await one.destroyObject(key);
    const found = async (): Promise<readonly number[]> =>
      (await other.find({ label: 'copied' })).map(({ handle }) => handle);
    // Waits for the time of `freshness`; from then on every find gives the copy.
    await until(
      async () => (await found())[0] === copy.handle,
      () => 'the copy is found under its own handle',
    );
    expect(await found()).toEqual([copy.handle]);
    expect(await other.encrypt('AES_ECB', copy.handle, data)).toEqual(result);
  });

  test('have a member in service that one removed and the other added again', async () => {
    const [one, other] = await openTwice();
    await one.addMember(third());
    await untilState(other, 'hsm3', 'active');
    await one.removeMember('hsm3', { wipe: true });
    await untilState(other, 'hsm3', 'drained');
    await other.addMember(third());
    await untilState(one, 'hsm3', 'active');
  });
});

test('[Rule 16] a member gets missed changes from a member that was added after them', async () => {
  const [one] = await openTwice();
  const key = await one.generateKey('AES_KEY_GEN', { ...aes, label: 'before', id: Buffer.from([7]) });
  const gone = await one.generateKey('AES_KEY_GEN', { ...aes, label: 'gone', id: Buffer.from([8]) });
  await lose('hsm1', one);
  await one.setAttributes(key, { label: 'after' });
  await one.destroyObject(gone);
  await one.addMember(third());
  await lose('hsm2', one);
  await bringBack('hsm1', one);
  expect(await labelsOn('hsm1')).toEqual(['after 07']);
  await bringBack('hsm2', one);
  for (const name of ['hsm1', 'hsm2', 'hsm3']) expect(await labelsOn(name)).toEqual(['after 07']);
});

test('a new member gets the keys of a program that does not have it in its configuration', async () => {
  const whole = cluster.configuration(policy);
  const two = { ...whole, members: whole.members.slice(0, 2) };
  const [adding, other] = [await cluster.open(two), await cluster.open(two)];
  await adding.addMember(third());
  const made = await other.generateKey('AES_KEY_GEN', { ...aes, label: 'since' });
  await until(
    async () => (await cluster.read('hsm3')).some(({ label }) => label === 'since'),
    () => 'hsm3 has the key',
  );
  await untilState(adding, 'hsm3', 'active');
  expect((await adding.find({ label: 'since' })).map(({ handle }) => handle)).toEqual([made.handle]);
});
