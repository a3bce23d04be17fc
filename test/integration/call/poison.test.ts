import { createPublicKey, verify } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Cluster, untilState } from '../../support/cluster.js';
import { rsaPair } from '../../support/keys.js';

const rsa = rsaPair('rsa');
const publicKey = createPublicKey(rsa.publicKey.export({ format: 'pem', type: 'spki' }));
const poison = Buffer.from('0badf00d', 'hex');

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.make('poison', [rsa.objects, rsa.objects]);
});
afterEach(() => cluster.heal());
afterAll(() => cluster.close());

describe.each([
  ['crashes', 'crash'],
  ['hangs', 'hang'],
  ['exits', 'exit=1'],
])('[Rule 8] a request that %s every member it meets', (_name, action) => {
  test('fails alone, and the calls beside and after it succeed', async () => {
    const token = await cluster.open();
    const key = await token.get({ label: 'rsa', class: 'PRIVATE_KEY' });
    for (const name of ['hsm1', 'hsm2']) cluster.fault(name, `C_Sign ${action} data=0badf00d`);
    let poisoned = true;
    const innocent = Promise.all(
      Array.from({ length: 6 }, async (_, caller) => {
        for (let i = 0; poisoned || i < 5; i += 1) {
          const data = Buffer.from(`innocent ${caller} ${i}`);
          expect(verify('sha256', data, publicKey, await token.sign('SHA256_RSA_PKCS', key, data))).toBe(true);
        }
      }),
    );
    const failure = await token.sign('SHA256_RSA_PKCS', key, poison).catch((error: unknown) => error);
    poisoned = false;
    await innocent;
    expect(failure).toMatchObject({ name: 'TokenError', method: 'C_Sign' });
    expect((failure as Error).message).toContain('it ran once more alone');
    expect(token.status().counters.quarantined).toBeGreaterThan(0);
    for (const name of ['hsm1', 'hsm2']) {
      await untilState(token, name, 'active');
      expect(cluster.met(name).length).toBeGreaterThan(0);
    }
    cluster.heal();
    expect(verify('sha256', poison, publicKey, await token.sign('SHA256_RSA_PKCS', key, poison))).toBe(true);
    await token.close();
  });
});
