import { afterEach, expect, test } from '@jest/globals';
import { createGroup } from '../../../src/index.js';
import { Cluster, pidOf, untilState } from '../../support/cluster.js';

const NO_COPY = 'C_CopyObject return=0x54';
const aes = { token: true, valueLen: 32, encrypt: true, sensitive: true, extractable: false };
const ec = Buffer.from('06082a8648ce3d030107', 'hex');

let cluster: Cluster;
afterEach(() => cluster.close());

test.each([['hsm2'], ['hsm1', 'hsm2']])(
  '%s without C_CopyObject: objects are made, restored and destroyed',
  async (...names) => {
    cluster = await Cluster.make('no-copy', [[], []]);
    const configuration = cluster.configuration({ hangAfter: 2000, writeHangAfter: 10_000, deadline: 20_000 });
    for (const name of names) cluster.fault(name, NO_COPY);
    await createGroup(configuration);
    const token = await cluster.open(configuration);
    const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'key' });
    const pair = await token.generateKeyPair(
      'EC_KEY_PAIR_GEN',
      { token: true, label: 'pair', verify: true, paramsEC: ec },
      { token: true, label: 'pair', sign: true, sensitive: true, extractable: false },
    );
    await token.createObject({ class: 'DATA', token: true, label: 'data', value: Buffer.from('value') });
    // The member misses a change, and makes it good.
    cluster.fault('hsm2', NO_COPY, 'C_Initialize return=0x30');
    process.kill(pidOf(token, 'hsm2'), 'SIGKILL');
    await untilState(token, 'hsm2', 'down');
    await token.generateKey('AES_KEY_GEN', { ...aes, label: 'later' });
    await token.destroyObject(key);
    cluster.fault('hsm2', NO_COPY);
    await untilState(token, 'hsm2', 'active');
    const labels = async (name: string): Promise<string[]> =>
      (await cluster.read(name)).map(({ label }) => label).sort();
    expect(await labels('hsm1')).toEqual(['data', 'later', 'pair', 'pair']);
    expect(await labels('hsm2')).toEqual(['data', 'later', 'pair', 'pair']);
    const digest = Buffer.alloc(32, 7);
    const signature = await token.sign('ECDSA', pair.privateKey, digest);
    expect(await token.verify('ECDSA', pair.publicKey, digest, signature)).toBe(true);
    await token.changePin('98765432');
  },
);
