import { createHmac, randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { TokenObject, VirtualToken } from '../../../src/index.js';
import { Cluster, pidOf, quickPolicy, untilState } from '../../support/cluster.js';
import { provision, type ReadObject } from '../../support/softhsm.js';
import { until } from '../../support/waiting.js';

let cluster: Cluster;
let token: VirtualToken;
beforeAll(async () => {
  cluster = await Cluster.form('replication');
  token = await cluster.open();
});
afterEach(async () => {
  cluster.heal();
  await Promise.all(['hsm1', 'hsm2'].map((name) => untilState(token, name, 'active')));
});
afterAll(() => cluster.close());

const members = ['hsm1', 'hsm2'] as const;
const aes = { token: true, valueLen: 32, encrypt: true, extractable: false, sensitive: true };

async function readBoth(label: string): Promise<readonly (readonly ReadObject[])[]> {
  const both = await Promise.all(members.map((name) => cluster.read(name)));
  return both.map((objects) => objects.filter((object) => object.label === label));
}

const failureOf = async (call: Promise<unknown>): Promise<{ code?: number; message: string }> =>
  await call.then(
    () => ({ message: 'it succeeded' }),
    (error: { code?: number; message: string }) => error,
  );

describe('a call whose outcome is unknown', () => {
  test('[Rule 2] a key generation that never returns ends at its deadline, and leaves no object', async () => {
    for (const name of members) cluster.fault(name, 'C_GenerateKeyPair hang');
    const pair = token.generateKeyPair(
      'RSA_PKCS_KEY_PAIR_GEN',
      { token: true, label: 'late', modulusBits: 2048 },
      { token: true, label: 'late', sign: true },
      { deadline: 300 },
    );
    expect((await failureOf(pair)).message).toMatch(/(no member|not all members) answered/u);
    // Lets the library finish; the job then removes the object that it made.
    cluster.heal();
    await Promise.all(members.map((name) => untilState(token, name, 'active')));
    expect(await token.find({ label: 'late' })).toEqual([]);
    expect(await readBoth('late')).toEqual([[], []]);
  });

  test('[Rule 9] a slow write on the only active member is waited for, although other calls are late there', async () => {
    await token.drain('hsm1');
    try {
      cluster.fault('hsm2', 'C_CreateObject delay=1100 times=1');
      const slow = token.createObject({ class: 'DATA', token: true, label: 'slow', value: Buffer.from('x') });
      // Makes calls that wait behind the write, which makes the member suspect for a moment.
      const others = Array.from({ length: 4 }, () => token.random(8));
      expect(await slow).toMatchObject({ label: 'slow' });
      await Promise.all(others);
    } finally {
      cluster.heal();
      await token.undrain('hsm1');
    }
    expect((await readBoth('slow')).map(({ length }) => length)).toEqual([1, 1]);
  });

  test('[Rule 9] a write that never returns on one member: the host is killed, and the call succeeds', async () => {
    cluster.fault('hsm2', 'C_CopyObject hang times=1');
    const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'half' });
    await untilState(token, 'hsm2', 'down', 'joining', 'recovering');
    cluster.heal();
    await untilState(token, 'hsm2', 'active');
    const [one, two] = await readBoth('half');
    expect(one).toHaveLength(1);
    expect(two).toEqual(one);
    expect(await token.find({ label: 'half' })).toEqual([key]);
  });

  test('[Rule 15] an aborted call is undone', async () => {
    for (const name of members) cluster.fault(name, 'C_CopyObject delay=100');
    const gaveUp = new AbortController();
    const call = token.generateKey('AES_KEY_GEN', { ...aes, label: 'given up' }, { signal: gaveUp.signal });
    await cluster.untilMet('hsm1', /C_CopyObject/u);
    gaveUp.abort(new Error('enough'));
    await expect(call).rejects.toThrow('enough');
    cluster.heal();
    // Makes another change behind the aborted one.
    await token.destroyObject(await token.generateKey('AES_KEY_GEN', { ...aes, label: 'another' }));
    const closing = await cluster.open();
    await closing.close();
    await until(
      async () => (await readBoth('given up')).flat().length === 0,
      () => 'the key is removed',
    );
    const own = await Promise.all(members.map((name) => cluster.readOwn(name)));
    expect(own.flat().filter((label) => /intent|journal/u.test(label))).toEqual([]);
  });
});

describe('twins', () => {
  const same = { token: true, label: 'twin', id: Buffer.from('twin'), class: 'SECRET_KEY', keyType: 'GENERIC_SECRET' };
  const values = [randomBytes(32), randomBytes(32), randomBytes(32)] as const;
  const macOf = (value: Buffer): Buffer => createHmac('sha256', value).update('data').digest();

  test('[Rule 11] keep their own handles, in whatever order they came to the tokens', async () => {
    const twins: TokenObject[] = [];
    for (const value of values.slice(0, 2)) {
      twins.push(await token.createObject({ ...same, value, sign: true, extractable: true }));
    }
    // Waits for both members: a member that has just missed a change would be stale alone.
    await until(
      async () => (await readBoth('twin')).every((objects) => objects.length === 2),
      () => 'both members have two twins',
    );
    await untilState(token, 'hsm2', 'active');
    // Makes the third while one member is away.
    cluster.fault('hsm1', 'C_Initialize return=0x30');
    process.kill(pidOf(token, 'hsm1'), 'SIGKILL');
    await untilState(token, 'hsm1', 'down');
    twins.push(await token.createObject({ ...same, value: values[2], sign: true, extractable: false }));
    cluster.heal();
    await untilState(token, 'hsm1', 'active');
    const handles = twins.map(({ handle }) => handle);
    expect(new Set(handles).size).toBe(3);
    const expectEach = async (own: VirtualToken): Promise<void> => {
      const found = (await own.find({ label: 'twin' })).map(({ handle }) => handle);
      expect([...found].sort()).toEqual([...handles].sort());
      for (const [index, handle] of handles.entries()) {
        for (let i = 0; i < 4; i += 1)
          expect(await own.sign('SHA256_HMAC', handle, 'data')).toEqual(macOf(values[index] as Buffer));
      }
    };
    await expectEach(token);
    const other = await cluster.open();
    await expectEach(other);
    await other.close();
    // Destroys one twin; the others keep their handles.
    await token.destroyObject(handles[0] as number);
    const third = await cluster.open();
    expect((await third.find({ label: 'twin' })).map(({ handle }) => handle).sort()).toEqual(handles.slice(1).sort());
    for (const index of [1, 2]) {
      const mac = await third.sign('SHA256_HMAC', handles[index] as number, 'data');
      expect(mac).toEqual(macOf(values[index] as Buffer));
    }
    await expect(third.sign('SHA256_HMAC', handles[0] as number, 'data')).rejects.toMatchObject({ code: 0x60 });
    await third.close();
    expect((await readBoth('twin')).map((objects) => objects.length)).toEqual([2, 2]);
  });

  test('are all found, also if sessions and login are lost while they are told apart', async () => {
    const made: TokenObject[] = [];
    for (const value of values.slice(0, 2))
      made.push(await token.createObject({ ...same, label: 'lost', value, sign: true, extractable: true }));
    const handles = made.map(({ handle }) => handle).sort();
    // Opens an application that knows neither, and loses its sessions at the proof of the first.
    const other = await cluster.open();
    for (const name of members) cluster.fault(name, 'C_DigestInit drop times=1');
    expect((await other.find({ label: 'lost' })).map(({ handle }) => handle).sort()).toEqual(handles);
    for (const name of members) expect(cluster.met(name).join()).toMatch(/C_DigestInit/u);
    cluster.heal();
    await other.close();
  });

  test('that are exact copies are told apart, and one can be destroyed without the other', async () => {
    const value = randomBytes(32);
    const template = { ...same, label: 'copies', value, sign: true, extractable: true };
    const first = await token.createObject(template);
    const second = await token.createObject(template);
    expect(second.handle).not.toBe(first.handle);
    await token.destroyObject(second);
    expect((await readBoth('copies')).map((objects) => objects.length)).toEqual([1, 1]);
    expect(await token.sign('SHA256_HMAC', first, 'data')).toEqual(macOf(value));
    const other = await cluster.open();
    expect(await other.find({ label: 'copies' })).toEqual([first]);
    await other.close();
  });
});

describe('a rename', () => {
  test('[Rule 11] changes no handle: in this process, after a restart, and for an object that takes the old name', async () => {
    const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'old name' });
    const block = randomBytes(16);
    const text = await token.encrypt('AES_ECB', key, block);
    const renamed = await token.setAttributes(key, { label: 'new name', id: Buffer.from('new') });
    expect(renamed).toMatchObject({ handle: key.handle, label: 'new name', id: Buffer.from('new') });
    const successor = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'old name' });
    expect(successor.handle).not.toBe(key.handle);
    const other = await cluster.open();
    expect((await other.find({ label: 'new name' })).map(({ handle }) => handle)).toEqual([key.handle]);
    expect((await other.find({ label: 'old name' })).map(({ handle }) => handle)).toEqual([successor.handle]);
    for (let i = 0; i < 4; i += 1) expect(await other.encrypt('AES_ECB', key.handle, block)).toEqual(text);
    // Renames again in the other process; this process learns it by a find.
    await other.setAttributes(key.handle, { label: 'third name' });
    await other.close();
    const found = async (): Promise<number[]> =>
      (await token.find({ label: 'third name' })).map(({ handle }) => handle);
    await until(
      async () => (await found())[0] === key.handle,
      () => 'the third name is found',
    );
    expect(await token.encrypt('AES_ECB', key, block)).toEqual(text);
  });
});

describe('a change by another program', () => {
  const template = (label: string, value: Buffer) => ({
    CLASS: 4,
    KEY_TYPE: 0x10,
    TOKEN: true,
    PRIVATE: true,
    SENSITIVE: true,
    EXTRACTABLE: true,
    SIGN: true,
    LABEL: label,
    ID: 'hex:0101',
    VALUE: `hex:${value.toString('hex')}`,
  });

  test('[Rule 12] is seen by a find, and never leads to a wrong key', async () => {
    const values = [randomBytes(32), randomBytes(32)] as const;
    const put = (value: Buffer): Promise<unknown> =>
      Promise.all(cluster.members.map(({ hsm }) => provision(hsm, { objects: [template('foreign', value)] })));
    await put(values[0]);
    await until(
      async () => (await token.find({ label: 'foreign' })).length > 0,
      () => 'the key is found',
    );
    const key = await token.get({ label: 'foreign' });
    const mac = (value: Buffer): Buffer => createHmac('sha256', value).update('data').digest();
    for (let i = 0; i < 4; i += 1) expect(await token.sign('SHA256_HMAC', key, 'data')).toEqual(mac(values[0]));
    // Puts another key in its place on both tokens.
    await Promise.all(
      cluster.members.map(({ hsm }) =>
        provision(hsm, { destroy: ['foreign'], objects: [template('foreign', values[1])] }),
      ),
    );
    const signed = async (): Promise<Buffer> => {
      const [found] = await token.find({ label: 'foreign' });
      return found === undefined
        ? Buffer.alloc(0)
        : await token.sign('SHA256_HMAC', found, 'data').catch(() => Buffer.alloc(0));
    };
    let result: Buffer = Buffer.alloc(0);
    const isSigned = async (): Promise<boolean> => {
      result = await signed();
      return result.length > 0;
    };
    await until(isSigned, () => 'the other key signs');
    expect(result).toEqual(mac(values[1]));
  });
});

test('[Rule 12] a key that another program puts under the name of a key of the group is reported, and not found', async () => {
  const own = await token.generateKey('GENERIC_SECRET_KEY_GEN', {
    token: true,
    label: 'taken',
    valueLen: 32,
    sign: true,
  });
  const foreign = { CLASS: 4, KEY_TYPE: 0x10, TOKEN: true, PRIVATE: true, SENSITIVE: true, SIGN: true, LABEL: 'taken' };
  const [first] = cluster.members;
  if (first === undefined) throw new Error('the group has no member');
  await provision(first.hsm, { objects: [{ ...foreign, EXTRACTABLE: false, VALUE: `hex:${'41'.repeat(32)}` }] });
  const fresh = await cluster.open();
  const reported: string[] = [];
  fresh.on('misaligned', ({ member, object }) => reported.push(`${object.label} on ${member}`));
  await until(
    async () => {
      expect((await fresh.find({ label: 'taken' })).map(({ handle }) => handle)).toEqual([own.handle]);
      return reported.length > 0;
    },
    () => 'the other key is reported',
  );
  expect(reported).toEqual([`taken on ${first.name}`]);
  expect(await fresh.sign('SHA256_HMAC', await fresh.get({ label: 'taken' }), 'data')).toEqual(
    await token.sign('SHA256_HMAC', own, 'data'),
  );
  await fresh.close();
});

// Last, because tokens with many objects are slow.
describe('many callers', () => {
  // Number of keys; scripts/test-native takes fewer, since sanitizers make every step slow.
  const count = Number(process.env.MANY_KEYS ?? 1000);

  test('generate a thousand keys: all succeed, and each token has all of them', async () => {
    // Raises the limits: tokens with many objects take long for each call.
    const patient = await cluster.open(
      cluster.configuration({ ...quickPolicy, hangAfter: 10_000, writeHangAfter: 20_000 }),
    );
    const labels = Array.from({ length: count }, (_, index) => `many ${index}`);
    const queue = [...labels];
    const made: TokenObject[] = [];
    const caller = async (): Promise<void> => {
      for (let label = queue.pop(); label !== undefined; label = queue.pop())
        made.push(await patient.generateKey('AES_KEY_GEN', { ...aes, label }, { deadline: 60_000 }));
    };
    await Promise.all(Array.from({ length: 8 }, caller));
    expect(new Set(made.map(({ handle }) => handle)).size).toBe(count);
    const [one = [], two = []] = await Promise.all(members.map((name) => cluster.read(name)));
    const keys = (objects: readonly ReadObject[]): string[] =>
      objects
        .filter(({ label }) => label.startsWith('many '))
        .map(({ label, fingerprint }) => `${label} ${fingerprint}`)
        .sort();
    expect(keys(one)).toHaveLength(count);
    expect(keys(two)).toEqual(keys(one));
  }, 300_000);
});
