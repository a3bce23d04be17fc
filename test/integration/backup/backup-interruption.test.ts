import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createGroup, type VirtualToken } from '../../../src/index.js';
import { data, partOf, portrait, Vault } from '../../support/backup.js';
import { boundaries, isEveryBoundary } from '../../support/boundaries.js';
import { Cluster } from '../../support/cluster.js';
import { startService } from '../../support/process.js';

/** Calls at which the application ends; in a run of all boundaries only writes, since only they change the token. */
const calls = isEveryBoundary ? 'writes' : '*';
const LONGEST = isEveryBoundary ? 3_600_000 : 180_000;

let cluster: Cluster;
let vault: Vault;
beforeEach(async () => {
  cluster = await Cluster.form('backup-interruption', [[], [], []], 2);
  vault = await Vault.make(cluster);
});
afterEach(async () => {
  vault.heal();
  await cluster.close();
  vault.close();
});

/** Tokens at whose call the application ends. */
const places = ['backup', 'member'] as const;

interface Attempt {
  readonly ended: boolean;
  readonly succeeded: boolean;
}

/** Runs a backup or restore in another process, which ends, with its hosts, at a call. */
async function interrupt(
  what: 'backup' | 'restore',
  configuration: ReturnType<typeof partOf>,
  where: (typeof places)[number],
  skip: number,
): Promise<Attempt> {
  const service = startService(`${what}:${JSON.stringify(vault.input)}`, configuration, 'pipe');
  await service.told;
  const [member] = configuration.members;
  const met = (): number => (where === 'backup' ? vault.met : cluster.met(member?.name ?? '').length);
  const before = met();
  const rule = `${calls} orphan times=1 skip=${skip}`;
  if (where === 'backup') vault.fault(rule);
  else cluster.fault(member?.name ?? '', rule);
  service.child.stdin?.write('go\n');
  const { code } = await service.ended;
  const ended = met() > before;
  vault.heal();
  cluster.heal();
  return { ended, succeeded: code === 0 };
}

/** Makes keys of each wrapping method, two twins, and a renamed key with a copy. */
async function makeSome(token: VirtualToken): Promise<void> {
  const aes = { token: true, valueLen: 32, encrypt: true, sensitive: true };
  await token.generateKey('AES_KEY_GEN', { ...aes, label: 'twin', extractable: true });
  await token.generateKey('AES_KEY_GEN', { ...aes, label: 'twin', extractable: false });
  const renamed = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'old name', extractable: false });
  await token.setAttributes(renamed, { label: 'new name' });
  await token.copyObject(renamed, { token: true });
  const odd = { class: 'SECRET_KEY', keyType: 'GENERIC_SECRET', token: true, sign: true } as const;
  await token.createObject({ ...odd, label: 'odd', value: Buffer.alloc(33, 7), extractable: false });
  await token.createObject({ class: 'DATA', token: true, private: true, label: 'data', value: data });
}

/** Returns the result of each key, which no other key gives. */
async function results(token: VirtualToken): Promise<readonly string[]> {
  const all: string[] = [];
  for (const { handle, label, type } of await token.find({ class: 'SECRET_KEY' })) {
    const result = await (type === 'AES'
      ? token.encrypt('AES_ECB', handle, data)
      : token.sign('SHA256_HMAC', handle, data));
    all.push(`${handle} ${label} ${result.toString('hex')}`);
  }
  return all.sort();
}

describe.each(places)('the application ends at a call of the %s', (where) => {
  test(
    'while it backs up: the former backup stays valid, and the same call again makes the new one',
    async () => {
      const configuration = partOf(cluster, 0, 2);
      const token = await cluster.open(configuration);
      await makeSome(token);
      const { objects } = await token.backup(vault.input);
      await token.close();
      let ends = 0;
      for (const skip of where === 'backup' ? boundaries(90, 60) : boundaries(600, 400)) {
        const changed = await cluster.open(configuration);
        const more = await changed.createObject({ class: 'DATA', token: true, label: `at ${skip}`, value: data });
        await changed.close();
        const { ended, succeeded } = await interrupt('backup', configuration, where, skip);
        const again = await cluster.open(configuration);
        // Restores the valid backup, whose keys are all present in the group.
        const { restored, present, failed } = await again.restore(vault.input);
        expect({ restored, failed }).toEqual({ restored: 0, failed: [] });
        expect(succeeded ? [objects + 1] : [objects, objects + 1]).toContain(present);
        expect(await again.backup(vault.input)).toMatchObject({ objects: objects + 1, left: [] });
        expect(await vault.counts()).toEqual({
          record: objects + 1,
          'pkcs11-ha:backup head': 1,
          'pkcs11-ha:backup key': 1,
          'pkcs11-ha:backup transport': 1,
        });
        // Removes the added key: each more object means more calls, so that the boundaries would never end.
        await again.destroyObject(more.handle);
        expect(await again.backup(vault.input)).toMatchObject({ objects });
        await again.close();
        if (!ended) break;
        ends += 1;
      }
      expect(ends).toBeGreaterThan(0);
    },
    LONGEST,
  );

  test(
    'while it restores: the same call again restores the rest, and nothing is doubled',
    async () => {
      const old = await cluster.open(partOf(cluster, 0, 2));
      await makeSome(old);
      await old.backup(vault.input);
      const before = await portrait(old);
      const outcome = await results(old);
      await old.close();
      const configuration = partOf(cluster, 2, 3, 'new group');
      await createGroup(configuration);
      let ends = 0;
      for (const skip of where === 'backup' ? boundaries(80, 50) : boundaries(240, 150)) {
        const { ended, succeeded } = await interrupt('restore', configuration, where, skip);
        const token = await cluster.open(configuration);
        const { restored, present, failed } = await token.restore(vault.input);
        expect({ sum: restored + present, failed }).toEqual({ sum: before.length, failed: [] });
        if (succeeded) expect(present).toBe(before.length);
        expect(await portrait(token)).toEqual(before);
        expect(await results(token)).toEqual(outcome);
        expect(await cluster.read('hsm3')).toEqual(await cluster.read('hsm1'));
        for (const object of await token.find()) await token.destroyObject(object);
        await token.close();
        expect(
          (await cluster.readOwn('hsm3')).filter((label) => !/domain|transport|group|gone|outcome/u.test(label)),
        ).toEqual([]);
        if (!ended) break;
        ends += 1;
      }
      expect(ends).toBeGreaterThan(0);
    },
    LONGEST,
  );
});
