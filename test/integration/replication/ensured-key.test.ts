import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { InputError } from '../../../src/index.js';
import { Cluster } from '../../support/cluster.js';
import { startService } from '../../support/process.js';

let cluster: Cluster;
beforeEach(async () => {
  cluster = await Cluster.form('ensured');
});
afterEach(() => cluster.close());

const template = { valueLen: 32, encrypt: true, sensitive: true };

describe('ensureKey', () => {
  test('makes a key once, and finds it afterwards, in this process and in others', async () => {
    const token = await cluster.open();
    const made = await token.ensureKey('seeds', 'AES_KEY_GEN', template);
    expect(await token.ensureKey('seeds', 'AES_KEY_GEN', template)).toEqual(made);
    const other = await cluster.open();
    expect((await other.ensureKey('seeds', 'AES_KEY_GEN', template)).handle).toBe(made.handle);
    expect(await token.find({ label: 'seeds' })).toHaveLength(1);
  });

  test('[Rule 21] makes one key whatever several processes do at once', async () => {
    const services = [1, 2, 3].map(() => startService('ensure', cluster.configuration(), 'pipe'));
    await Promise.all(services.map(({ told }) => told));
    for (const { child } of services) child.stdin?.write('go\n');
    await Promise.all(services.map(({ ended }) => ended));
    const told = services.map(({ lines }) => lines.at(-1));
    expect([new Set(told).size, told[0]]).toEqual([1, expect.stringMatching(/handles/u)]);
    for (const { name } of cluster.members)
      expect((await cluster.read(name)).map(({ label }) => label)).toEqual(['a', 'b', 'c']);
  });

  test('makes one key for calls of one process that run at once', async () => {
    const token = await cluster.open();
    const keys = await Promise.all([1, 2, 3, 4].map(() => token.ensureKey('one', 'AES_KEY_GEN', template)));
    expect(new Set(keys.map(({ handle }) => handle)).size).toBe(1);
  });

  test('makes a pair once; refuses half a pair, several keys of a label, and a bad label', async () => {
    const token = await cluster.open();
    const curve = { paramsEC: Buffer.from('06082a8648ce3d030107', 'hex'), verify: true };
    const made = await token.ensureKeyPair('audit', 'EC_KEY_PAIR_GEN', curve, { sign: true });
    expect(await token.ensureKeyPair('audit', 'EC_KEY_PAIR_GEN', curve, { sign: true })).toEqual(made);
    await token.destroyObject(made.publicKey);
    const half = token.ensureKeyPair('audit', 'EC_KEY_PAIR_GEN', curve, { sign: true });
    await expect(half).rejects.toMatchObject({ code: 0xd1 });
    for (let i = 0; i < 2; i += 1)
      await token.generateKey('AES_KEY_GEN', { ...template, token: true, label: 'several' });
    await expect(token.ensureKey('several', 'AES_KEY_GEN', template)).rejects.toMatchObject({ code: 0xd0 });
    await expect(token.ensureKey('', 'AES_KEY_GEN', template)).rejects.toBeInstanceOf(InputError);
  });
});
