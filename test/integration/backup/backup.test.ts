import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { createGroup } from '../../../src/index.js';
import { data, makeAll, partOf, portrait, Vault } from '../../support/backup.js';
import { Cluster } from '../../support/cluster.js';

// Raises the time-out: two groups, and key pairs on four tokens, take long.
jest.setTimeout(90_000);

let cluster: Cluster;
let vault: Vault;
beforeEach(async () => {
  // Makes four tokens: a group of two, and two for the group that a backup is restored into.
  cluster = await Cluster.form('backup', [[], [], [], []], 2);
  vault = await Vault.make(cluster);
});
afterEach(async () => {
  vault.heal();
  await cluster.close();
  vault.close();
});

test('[Rule 11] a restore into another group gives every object back under its handle', async () => {
  const token = await cluster.open(partOf(cluster, 0, 2));
  const { kept, secrets } = await makeAll(token);
  const before = await portrait(token);
  const told: string[] = [];
  token.on('progress', ({ what, done, total }) => told.push(`${what} ${done}/${total}`));
  const report = await token.backup(vault.input);
  expect(told).toContain(`backing up ${before.length}/${before.length}`);
  expect(report).toEqual({ objects: before.length, keys: 13, left: [] });
  // Compares the group with its state before the backup.
  expect(await portrait(token)).toEqual(before);
  for (const { check } of kept) await check(token);
  await token.close();

  expect(await vault.counts()).toEqual({
    record: before.length,
    'pkcs11-ha:backup head': 1,
    'pkcs11-ha:backup key': 1,
    'pkcs11-ha:backup transport': 1,
  });
  const onVault = await vault.read();
  for (const { label, flags, value, wrapped } of onVault.filter(({ class: objectClass }) => objectClass !== 0)) {
    expect(flags).not.toContain('EXTRACTABLE');
    for (const answer of [value, wrapped]) expect(`${label} ${answer}`).not.toMatch(/CKR_OK$/u);
  }
  const written = await vault.values();
  for (const secret of secrets) {
    expect(written.includes(secret)).toBe(false);
    expect(written.includes(secret.toString('hex'))).toBe(false);
  }

  await createGroup(partOf(cluster, 2, 4, 'new group'));
  const fresh = await cluster.open(partOf(cluster, 2, 4, 'new group'));
  expect(await fresh.restore(vault.input)).toEqual({ restored: before.length, present: 0, failed: [] });
  expect(await portrait(fresh)).toEqual(before);
  for (const { check } of kept) await check(fresh);
  expect(await fresh.restore(vault.input)).toEqual({ restored: 0, present: before.length, failed: [] });
  await fresh.close();
  for (const name of ['hsm2', 'hsm3', 'hsm4']) expect(await cluster.read(name)).toEqual(await cluster.read('hsm1'));
  // Opens each member alone.
  for (const [from, to] of [
    [2, 3],
    [3, 4],
  ] as const) {
    const alone = await cluster.open(partOf(cluster, from, to, 'new group'));
    expect(await portrait(alone)).toEqual(before);
    for (const { check } of kept) await check(alone);
    await alone.close();
  }
});

test('restored non-extractable keys are sealed again: a later member gets them', async () => {
  const token = await cluster.open(partOf(cluster, 0, 2));
  const { kept } = await makeAll(token);
  await token.backup(vault.input);
  await token.close();
  await createGroup(partOf(cluster, 2, 3, 'new group'));
  const fresh = await cluster.open(partOf(cluster, 2, 3, 'new group'));
  await fresh.restore(vault.input);
  await fresh.addMember(partOf(cluster, 3, 4).members[0] as never);
  await fresh.close();
  const alone = await cluster.open(partOf(cluster, 3, 4, 'new group'));
  for (const { check } of kept) await check(alone);
});

test('a second backup replaces the first, and names keys that it cannot hold', async () => {
  const configuration = partOf(cluster, 0, 2);
  const token = await cluster.open({
    ...configuration,
    policy: { ...configuration.policy, nonExtractable: 'unsealed' },
  });
  const key = { token: true, valueLen: 32, encrypt: true, sensitive: true };
  const one = await token.generateKey('AES_KEY_GEN', { ...key, label: 'one', extractable: true });
  expect(await token.backup(vault.input)).toEqual({ objects: 1, keys: 1, left: [] });
  const two = await token.generateKey('AES_KEY_GEN', { ...key, label: 'two', extractable: true });
  const left = await token.generateKey('AES_KEY_GEN', { ...key, label: 'left', extractable: false });
  await token.destroyObject(one);
  expect(await token.backup(vault.input)).toEqual({
    objects: 1,
    keys: 1,
    left: [{ handle: left.handle, label: 'left', id: '' }],
  });
  expect(await vault.counts()).toEqual({
    record: 1,
    'pkcs11-ha:backup head': 1,
    'pkcs11-ha:backup key': 1,
    'pkcs11-ha:backup transport': 1,
  });
  // Restores into the same group: present objects stay, and destroyed ones come back.
  const before = await token.encrypt('AES_ECB', two, data);
  await token.destroyObject(two);
  expect(await token.restore(vault.input)).toEqual({ restored: 1, present: 0, failed: [] });
  expect(await token.encrypt('AES_ECB', two.handle, data)).toEqual(before);
});

test('[Rule 12] a key comes back under its own handle beside another key of its name', async () => {
  const token = await cluster.open(partOf(cluster, 0, 2));
  const template = { token: true, valueLen: 32, encrypt: true, label: 'contested', extractable: true };
  const theirs = await token.generateKey('AES_KEY_GEN', template);
  const former = await token.encrypt('AES_ECB', theirs, data);
  await token.backup(vault.input);
  await token.destroyObject(theirs);
  const ours = await token.generateKey('AES_KEY_GEN', template);
  expect(ours.handle).not.toBe(theirs.handle);
  const before = await token.encrypt('AES_ECB', ours, data);
  expect(await token.restore(vault.input)).toEqual({ restored: 1, present: 0, failed: [] });
  expect(await token.encrypt('AES_ECB', ours, data)).toEqual(before);
  expect(await token.encrypt('AES_ECB', theirs.handle, data)).toEqual(former);
  const found = await token.find({ label: 'contested' });
  expect(new Set(found.map(({ handle }) => handle))).toEqual(new Set([ours.handle, theirs.handle]));
});

test('tokens of members, of other groups and without a backup are refused; a wrong PIN is tried once', async () => {
  const token = await cluster.open(partOf(cluster, 0, 2));
  await token.generateKey('AES_KEY_GEN', { token: true, valueLen: 32, label: 'one', extractable: true });
  await expect(token.restore(vault.input)).rejects.toMatchObject({
    code: 0x20,
    message: expect.stringMatching(/no backup/u),
  });
  const { name: _name, ...member } = partOf(cluster, 1, 2).members[0] as never as { name: string };
  await expect(token.backup(member as never)).rejects.toMatchObject({
    code: 0x1b,
    message: expect.stringMatching(/same token/u),
  });

  // Tries a member of another group, and then that group's backup.
  const { name: _other, ...third } = partOf(cluster, 2, 3).members[0] as never as { name: string };
  await createGroup(partOf(cluster, 2, 3, 'other group'));
  await expect(token.backup(third as never)).rejects.toMatchObject({
    code: 0x1b,
    message: expect.stringMatching(/other group/u),
  });
  const other = await cluster.open(partOf(cluster, 2, 3, 'other group'));
  await other.backup(vault.input);
  await other.close();
  await expect(token.backup(vault.input)).rejects.toMatchObject({
    code: 0x1b,
    message: expect.stringMatching(/other group/u),
  });
  expect(await token.backup(vault.input, { existing: 'remove' })).toMatchObject({ objects: 1 });
  expect(await vault.counts()).toMatchObject({ record: 1, 'pkcs11-ha:backup head': 1 });
  expect(await token.backup(third as never, { existing: 'remove' })).toMatchObject({ objects: 1 });

  process.env.PKCS11_HA_WRONG_PIN = '000000';
  vault.fault('C_Login delay=0');
  const met = vault.met;
  await expect(token.backup({ ...vault.input, pin: { env: 'PKCS11_HA_WRONG_PIN' } })).rejects.toMatchObject({
    code: 0xa0,
  });
  expect(vault.met - met).toBe(1);
  delete process.env.PKCS11_HA_WRONG_PIN;
  // Checks that the group's own logins still work.
  expect(await token.find()).toHaveLength(1);
});
