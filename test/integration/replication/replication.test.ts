import { createHmac, randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { TokenObject, VirtualToken } from '../../../src/index.js';
import { Cluster, pidOf, quickPolicy, untilState } from '../../support/cluster.js';
import { provision, type ReadObject } from '../../support/softhsm.js';

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
  test('a key generation that never returns ends at its deadline, and leaves no stray object', async () => {
    for (const name of members) cluster.fault(name, 'C_GenerateKeyPair hang');
    const pair = token.generateKeyPair(
      'RSA_PKCS_KEY_PAIR_GEN',
      { token: true, label: 'late', modulusBits: 2048 },
      { token: true, label: 'late', sign: true },
      { deadline: 300 },
    );
    expect((await failureOf(pair)).message).toMatch(/no (member answered|answer)/u);
    // The library finishes after all: what it made goes with the job that made it.
    cluster.heal();
    await Promise.all(members.map((name) => untilState(token, name, 'active')));
    expect(await token.find({ label: 'late' })).toEqual([]);
    expect(await readBoth('late')).toEqual([[], []]);
  });

  test('a slow write on the only member that is left is waited for, although nothing else answers there', async () => {
    await token.drain('hsm1');
    try {
      cluster.fault('hsm2', 'C_CreateObject delay=1100 times=1');
      const slow = token.createObject({ class: 'DATA', token: true, label: 'slow', value: Buffer.from('x') });
      // Those that wait behind the write have it suspected, if only for a moment.
      const others = Array.from({ length: 4 }, () => token.random(8));
      expect(await slow).toMatchObject({ label: 'slow' });
      await Promise.all(others);
    } finally {
      cluster.heal();
      await token.undrain('hsm1');
    }
    expect((await readBoth('slow')).map(({ length }) => length)).toEqual([1, 1]);
  });

  test('a write that never returns on one member does not keep the call from succeeding', async () => {
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

  test('a call that is given up is undone', async () => {
    for (const name of members) cluster.fault(name, 'C_CopyObject delay=100');
    const gaveUp = new AbortController();
    const call = token.generateKey('AES_KEY_GEN', { ...aes, label: 'given up' }, { signal: gaveUp.signal });
    await cluster.untilMet('hsm1', /C_CopyObject/u);
    gaveUp.abort(new Error('enough'));
    await expect(call).rejects.toThrow('enough');
    cluster.heal();
    // Another call goes to its end behind it.
    await token.destroyObject(await token.generateKey('AES_KEY_GEN', { ...aes, label: 'another' }));
    const closing = await cluster.open();
    await closing.close();
    while ((await readBoth('given up')).flat().length > 0);
    const own = await Promise.all(members.map((name) => cluster.readOwn(name)));
    expect(own.flat().filter((label) => /intent|journal/u.test(label))).toEqual([]);
  });
});

describe('twins', () => {
  const same = { token: true, label: 'twin', id: Buffer.from('twin'), class: 'SECRET_KEY', keyType: 'GENERIC_SECRET' };
  const values = [randomBytes(32), randomBytes(32), randomBytes(32)] as const;
  const macOf = (value: Buffer): Buffer => createHmac('sha256', value).update('data').digest();

  test('keep their own handles and never mix, whatever the order in which they came to the tokens', async () => {
    const twins: TokenObject[] = [];
    for (const value of values.slice(0, 2)) {
      twins.push(await token.createObject({ ...same, value, sign: true, extractable: true }));
    }
    // One that has just missed a change would be stale alone.
    while ((await readBoth('twin')).some((objects) => objects.length < 2));
    await untilState(token, 'hsm2', 'active');
    // The third is made while one member is away, and comes there later.
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
    // With one of them gone the others stay who they are.
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

  test('are all found, also where sessions and login are lost while they are told apart', async () => {
    const made: TokenObject[] = [];
    for (const value of values.slice(0, 2))
      made.push(await token.createObject({ ...same, label: 'lost', value, sign: true, extractable: true }));
    const handles = made.map(({ handle }) => handle).sort();
    // One that has met neither of them, at the moment in which it asks for the proof of the first.
    const other = await cluster.open();
    for (const name of members) cluster.fault(name, 'C_DigestInit drop times=1');
    expect((await other.find({ label: 'lost' })).map(({ handle }) => handle).sort()).toEqual(handles);
    for (const name of members) expect(cluster.met(name).join()).toMatch(/C_DigestInit/u);
    cluster.heal();
    await other.close();
  });

  test('exact copies are told apart, and one goes without the other', async () => {
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
  test('changes no handle: not here, not after a restart, not for what takes the old name', async () => {
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
    // And back again, by the other process; this one is told by its next find.
    await other.setAttributes(key.handle, { label: 'third name' });
    await other.close();
    const found = async (): Promise<number[]> =>
      (await token.find({ label: 'third name' })).map(({ handle }) => handle);
    while ((await found())[0] !== key.handle);
    expect(await token.encrypt('AES_ECB', key, block)).toEqual(text);
  });
});

describe('what another program does on a token', () => {
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

  test('is seen by a find, and never leads to a wrong key', async () => {
    const values = [randomBytes(32), randomBytes(32)] as const;
    const put = (value: Buffer): Promise<unknown> =>
      Promise.all(cluster.members.map(({ hsm }) => provision(hsm, { objects: [template('foreign', value)] })));
    await put(values[0]);
    while ((await token.find({ label: 'foreign' })).length === 0);
    const key = await token.get({ label: 'foreign' });
    const mac = (value: Buffer): Buffer => createHmac('sha256', value).update('data').digest();
    for (let i = 0; i < 4; i += 1) expect(await token.sign('SHA256_HMAC', key, 'data')).toEqual(mac(values[0]));
    // Another key takes its place, on both.
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
    let result = await signed();
    while (result.length === 0) result = await signed();
    expect(result).toEqual(mac(values[1]));
  });
});

// Last, because tokens are slow that have so many objects.
describe('many callers', () => {
  // A thousand; fewer where every step is watched (scripts/test-native).
  const count = Number(process.env.MANY_KEYS ?? 1000);

  test('generate a thousand keys: all succeed, and each token has all of them', async () => {
    // With so many objects the tokens take long for each call: that is no hang.
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
