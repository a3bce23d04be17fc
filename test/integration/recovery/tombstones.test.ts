import { cpSync, rmSync } from 'node:fs';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import type { TokenObject, VirtualToken } from '../../../src/index.js';
import { Cluster, pidOf, untilState } from '../../support/cluster.js';
import { copyHsm, provision } from '../../support/softhsm.js';
import { until } from '../../support/waiting.js';

let cluster: Cluster;
beforeEach(async () => {
  cluster = await Cluster.form('tombstones');
});
afterEach(async () => {
  jest.restoreAllMocks();
  await cluster.close();
});

const key = (token: VirtualToken, label: string): Promise<TokenObject> =>
  token.generateKey('AES_KEY_GEN', { token: true, label, valueLen: 32, encrypt: true });
const labelsOn = async (name: string): Promise<readonly string[]> =>
  (await cluster.read(name)).map(({ label }) => label).sort();
const gone = async (name: string): Promise<readonly string[]> =>
  (await cluster.readOwn(name)).filter((label) => label.startsWith('pkcs11-ha:gone '));

/** Takes a member's host away, does something to its token, and lets the member come back. */
async function whileAway(token: VirtualToken, name: string, work: () => Promise<void> | void): Promise<void> {
  cluster.fault(name, 'C_Initialize return=0x30');
  process.kill(pidOf(token, name), 'SIGKILL');
  await untilState(token, name, 'down');
  await work();
  cluster.heal();
  await untilState(token, name, 'active');
}

test('[Rule 28] a key that was destroyed goes on a member that was put back to an earlier state; others reach it', async () => {
  const token = await cluster.open();
  const [old, kept] = [await key(token, 'old'), await key(token, 'kept')];
  const { hsm } = cluster.member('hsm2');
  const before = copyHsm(hsm, cluster.folder.path);
  await token.destroyObject(old);
  await key(token, 'new');
  await whileAway(token, 'hsm2', () => {
    rmSync(hsm.directory, { recursive: true });
    cpSync(before.directory, hsm.directory, { recursive: true });
  });
  await until(
    async () => JSON.stringify(await labelsOn('hsm2')) === JSON.stringify(['kept', 'new']),
    () => 'the member has what the others have',
  );
  expect((await token.find()).map(({ label }) => label).sort()).toEqual(['kept', 'new']);
  expect((await token.get({ label: 'kept' })).handle).toBe(kept.handle);
  expect(await gone('hsm2')).toHaveLength(1);
});

test('[Rule 14] a key that a member lost is copied back, although its other records are newer', async () => {
  const token = await cluster.open();
  await key(token, 'lost');
  await key(token, 'newer');
  await provision(cluster.member('hsm2').hsm, { destroy: ['lost'] });
  await provision(cluster.member('hsm2').hsm, {
    destroy: (await cluster.readOwn('hsm2')).filter((label) => /:key /u.test(label)).slice(0, 1),
  });
  const { differences } = await token.synchronize();
  expect(differences.filter(({ kind }) => kind === 'foreign')).toEqual([]);
  expect(await labelsOn('hsm2')).toEqual(['lost', 'newer']);
});

test('the oldest tombstones are removed, also by a program that closes the group at once', async () => {
  const token = await cluster.open();
  const made = await key(token, 'last');
  const old = Array.from({ length: 520 }, (_, index) => ({
    ...{ CLASS: 0, TOKEN: true, PRIVATE: true, APPLICATION: 'pkcs11-ha key', VALUE: 'hex:00' },
    LABEL: `pkcs11-ha:gone ${index.toString(16).padStart(12, '0')} ${(index + 1).toString(16)}`,
  }));
  await provision(cluster.member('hsm1').hsm, { objects: old });
  expect(await gone('hsm1')).toHaveLength(520);
  jest.spyOn(Math, 'random').mockReturnValue(0);
  await token.destroyObject(made);
  jest.restoreAllMocks();
  await token.close();
  expect(await gone('hsm1')).toHaveLength(512);
  expect((await gone('hsm1')).filter((label) => label.endsWith(' 1'))).toEqual([]);
});
