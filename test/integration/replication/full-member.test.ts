import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { Cluster, stateOf } from '../../support/cluster.js';

/** CKR_DEVICE_MEMORY. */
const NO_MEMORY = 0x31;

let cluster: Cluster;
beforeEach(async () => {
  cluster = await Cluster.form('full');
});
afterEach(() => cluster.close());

const aes = { token: true, valueLen: 32, encrypt: true };

// The intent of a change goes to the first member.
test.each(['hsm1', 'hsm2'])(
  'a full token refuses new keys, and serves and destroys those that it has: %s',
  async (full) => {
    const token = await cluster.open();
    const [kept, going] = [
      await token.generateKey('AES_KEY_GEN', { ...aes, label: 'kept' }),
      await token.generateKey('AES_KEY_GEN', { ...aes, label: 'going' }),
    ];
    cluster.fault(full, 'C_CopyObject return=0x31');
    await expect(token.generateKey('AES_KEY_GEN', { ...aes, label: 'new' })).rejects.toMatchObject({
      code: NO_MEMORY,
      message: expect.stringContaining(`${full} C_CopyObject: CKR_DEVICE_MEMORY`),
    });
    await token.destroyObject(going);
    expect(stateOf(token.status(), full)).toBe('active');
    expect(await token.encrypt('AES_ECB', kept, 'sixteen bytes...')).toHaveLength(16);
    for (const name of ['hsm1', 'hsm2']) expect((await cluster.read(name)).map(({ label }) => label)).toEqual(['kept']);
    cluster.heal();
    await token.generateKey('AES_KEY_GEN', { ...aes, label: 'with room again' });
  },
);
