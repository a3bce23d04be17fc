import { generateKeyPairSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type GroupConfigInput, generateAdministrationKey, signGroup, type VirtualToken } from '../../../src/index.js';
import { Cluster, quickPolicy, untilState } from '../../support/cluster.js';
import { dataObject, plant, recordsOn } from '../../support/planted.js';
import { provision } from '../../support/softhsm.js';
import { until } from '../../support/waiting.js';

type Configuration = ReturnType<Cluster['configuration']>;

const aes = { token: true, valueLen: 32, encrypt: true, sensitive: true, extractable: false };
const odd = { token: true, valueLen: 9, sign: true, label: 'odd' };

let cluster: Cluster;
beforeEach(async () => {
  cluster = await Cluster.form('trust', [[], [], []], 2);
});
afterEach(() => cluster.close());

/** Returns the configuration of the first two members, with or without an administration key. */
function twoOf(administration?: GroupConfigInput['administration']): Configuration {
  const all = cluster.configuration();
  const members = all.members.slice(0, 2);
  return administration === undefined ? { ...all, members } : { ...all, members, administration };
}

const third = (): Configuration['members'][number] => {
  const member = cluster.configuration().members[2];
  if (member === undefined) throw new Error('the cluster has no third member');
  return member;
};

/** Makes an administration key whose private half is in a file of the cluster's folder. */
function newKey(name: string): { publicKey: string; key: { file: string } } {
  const { publicKey, privateKey } = generateAdministrationKey();
  const file = join(cluster.folder.path, name);
  writeFileSync(file, `${privateKey}\n`, { mode: 0o600 });
  return { publicKey, key: { file } };
}

/** Returns a member of an attacker, who knows its private key. */
function stranger(): Record<string, string> {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 3072 });
  const { n = '' } = publicKey.export({ format: 'jwk' });
  const modulus = Buffer.from(n, 'base64url').toString('hex');
  return { serial: 'stranger00000000', name: 'stranger', modulus, publicExponent: '010001', transport: 'ee' };
}

/** Writes a changed copy of the group record on hsm1, as somebody with the PIN can. */
async function forge(change: (record: Record<string, unknown>) => Record<string, unknown>): Promise<void> {
  const [record] = await recordsOn(cluster, 'hsm1', 'group');
  const forged = change({ ...record } as Record<string, unknown>);
  await plant(cluster, 'hsm1', dataObject('pkcs11-ha:group', forged, true));
}

const withStranger = (record: Record<string, unknown>): Record<string, unknown> => ({
  ...record,
  revision: Number(record.revision) + 1,
  members: [...(record.members as readonly unknown[]), stranger()],
});

/** Returns all that the group's records and key records on the members hold for the stranger. */
async function heldForStranger(): Promise<readonly unknown[]> {
  const kept: unknown[] = [];
  for (const name of ['hsm1', 'hsm2'])
    for (const { sequence, pending } of await recordsOn(cluster, name, 'group'))
      if (sequence !== undefined && Object.keys(pending ?? {}).some((serial) => serial.startsWith('stranger')))
        kept.push(pending);
  return kept;
}

const refusal = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'done',
    (error: Error) => error.message,
  );

describe('[Rule 19] a record without the signature of the administration key', () => {
  test('is not adopted, is reported, and no key is wrapped for the members that it names', async () => {
    await forge(withStranger);
    const log = join(cluster.folder.path, 'events.log');
    const token = await cluster.open({ ...twoOf(), log: { file: log } });
    expect(token.status()).toMatchObject({ isSigned: true, members: [{ state: 'active' }, { state: 'active' }] });
    await token.addMember(third());
    await token.generateKey('GENERIC_SECRET_KEY_GEN', odd);
    expect(readFileSync(log, 'utf8')).toContain(
      '1 group record on hsm1 is not signed with the administration key and is ignored',
    );
    expect(await heldForStranger()).toEqual([]);
  });

  test('is not adopted if it is an older one with a higher revision: a removed member does not come back', async () => {
    const token = await cluster.open(twoOf());
    await token.addMember(third());
    const [before] = await recordsOn(cluster, 'hsm1', 'group');
    await token.removeMember('hsm3');
    await plant(cluster, 'hsm1', dataObject('pkcs11-ha:group', { ...before, revision: 1000, time: 2 ** 52 }, true));
    const fresh = await cluster.open(twoOf());
    await fresh.generateKey('AES_KEY_GEN', { ...aes, label: 'later' });
    const members = fresh.status().members.map(({ name, state }) => `${name} ${state}`);
    expect(members).toEqual(['hsm1 active', 'hsm2 active']);
    expect(
      (await recordsOn(cluster, 'hsm2', 'group')).map(({ members: named }) => (named as unknown[]).length),
    ).toEqual([2]);
    // The next change replaces it.
    await fresh.addMember(third());
    for (const name of ['hsm1', 'hsm2', 'hsm3']) {
      const records = await recordsOn(cluster, name, 'group');
      expect(records.map(({ members: named }) => (named as unknown[]).length)).toEqual([3]);
      expect(records.every(({ revision }) => Number(revision) < 1000)).toBe(true);
    }
  });

  test('does not stand for the group on a token that has no other', async () => {
    const { publicKey } = generateAdministrationKey();
    const quick = { ...twoOf({ publicKey }), policy: { ...quickPolicy, deadline: 1500 } };
    await expect(cluster.open(quick)).rejects.toThrow(
      'the group record on the token is not signed with the administration key',
    );
  });
});

describe('a process without the private administration key', () => {
  let publicKey: string;
  let token: VirtualToken;
  beforeEach(async () => {
    const [record] = await recordsOn(cluster, 'hsm1', 'group');
    publicKey = (record as { signature: { key: string } }).signature.key;
    token = await cluster.open(twoOf({ publicKey }));
  });

  test('makes keys, and changes no membership', async () => {
    expect(token.status().isSigned).toBe(true);
    await token.generateKey('GENERIC_SECRET_KEY_GEN', odd);
    const expected = /the private administration key is not on this host/u;
    expect(await refusal(token.addMember(third()))).toMatch(expected);
    expect(await refusal(token.removeMember('hsm2'))).toMatch(expected);
    expect(await refusal(token.rekeyGroup())).toMatch(expected);
    expect(token.status().members.map(({ name }) => name)).toEqual(['hsm1', 'hsm2']);
  });

  test('takes up what one with the key has changed', async () => {
    const administrator = await cluster.open(twoOf());
    const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'sealed' });
    await administrator.addMember(third());
    await administrator.rekeyGroup();
    const all = await cluster.open({ ...cluster.configuration(), administration: { publicKey } });
    await untilState(all, 'hsm3', 'active');
    const text = await all.encrypt('AES_ECB', key.handle, 'sixteen bytes...');
    expect(await token.encrypt('AES_ECB', key, 'sixteen bytes...')).toEqual(text);
    await token.generateKey('GENERIC_SECRET_KEY_GEN', { ...odd, label: 'after' });
    await until(
      async () => (await all.synchronize({ dryRun: true })).differences.length === 0,
      () => 'the new member has all keys',
    );
  });
});

describe('a group that nobody has signed', () => {
  const unsign = async (): Promise<void> => {
    for (const { name } of cluster.members.slice(0, 2)) {
      const [record] = await recordsOn(cluster, name, 'group');
      const { signature: _signature, sequence: _sequence, ...rest } = record as Record<string, unknown>;
      await replace(name, { ...rest, id: 'ab'.repeat(16) });
    }
  };
  const replace = async (name: string, record: unknown): Promise<void> => {
    await provision(cluster.member(name).hsm, {
      destroy: ['pkcs11-ha:group'],
      objects: [dataObject('pkcs11-ha:group', record, true)],
    });
  };
  beforeEach(unsign);

  test('works, says so, and wraps nothing for transport keys until it is signed', async () => {
    const token = await cluster.open(twoOf());
    expect(token.status().isSigned).toBe(false);
    const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'K' });
    const text = await token.encrypt('AES_ECB', key, 'sixteen bytes...');
    const expected = /the group's record is not signed: sign it with `pkcs11-ha group sign`/u;
    expect(await refusal(token.addMember(third()))).toMatch(expected);
    expect(await refusal(token.generateKey('GENERIC_SECRET_KEY_GEN', odd))).toMatch(expected);
    const administration = newKey('first');
    const signed = await signGroup(twoOf(administration));
    expect(signed).toMatchObject({ publicKey: administration.publicKey, leftOut: [] });
    const after = await cluster.open(twoOf(administration));
    expect(after.status().isSigned).toBe(true);
    expect(await after.encrypt('AES_ECB', key.handle, 'sixteen bytes...')).toEqual(text);
    await after.addMember(third());
    await after.generateKey('GENERIC_SECRET_KEY_GEN', odd);
  });

  test('is signed only if each member that the record names holds its transport key', async () => {
    await forge(withStranger);
    const administration = newKey('first');
    expect(await refusal(signGroup(twoOf(administration)))).toMatch(/stranger is not in service/u);
    const [record] = await recordsOn(cluster, 'hsm2', 'group');
    const [own, other] = (record as { members: Record<string, string>[] }).members;
    const { modulus, publicExponent } = stranger();
    await forge((found) => ({
      ...found,
      revision: 50,
      members: [{ ...own, modulus, publicExponent }, other],
    }));
    expect(await refusal(signGroup(twoOf(administration)))).toMatch(
      /the token of hsm1 does not hold its transport key/u,
    );
  });

  test('is not signed if it is not the one that was looked at; the account can use the group as before', async () => {
    expect(await refusal(signGroup(twoOf(), { seen: 'ab'.repeat(32) }))).toMatch(
      /the group record has changed meanwhile/u,
    );
    const token = await cluster.open(twoOf());
    expect(token.status()).toMatchObject({ isSigned: false, members: [{ state: 'active' }, { state: 'active' }] });
  });

  test('is not signed, and leaves no key with the account, if no token takes the signed record', async () => {
    for (const name of ['hsm1', 'hsm2']) cluster.fault(name, 'C_CreateObject return=0x31', 'C_CopyObject return=0x31');
    expect(await refusal(signGroup(twoOf()))).toMatch(/CKR_DEVICE_MEMORY/u);
    cluster.heal();
    const token = await cluster.open(twoOf());
    expect(token.status()).toMatchObject({ isSigned: false, members: [{ state: 'active' }, { state: 'active' }] });
    await token.generateKey('AES_KEY_GEN', { ...aes, label: 'K' });
    await token.close();
    expect(await signGroup(twoOf(newKey('second')))).toMatchObject({ leftOut: [] });
  });

  test('is not signed if another record is written while the members prove their keys', async () => {
    // The forged record is written while hsm2 unwraps the key that proves its transport key.
    cluster.fault('hsm2', 'C_UnwrapKey trace', 'C_UnwrapKey delay=4000 times=1');
    const signing = refusal(signGroup({ ...twoOf(newKey('first')), policy: { hangAfter: 10_000 } }));
    await cluster.untilMet('hsm2', /C_UnwrapKey/u);
    await forge(withStranger);
    expect(await signing).toMatch(/the group record has changed meanwhile/u);
    expect(await heldForStranger()).toEqual([]);
  });

  test('of a former format is signed after the upgrade', async () => {
    for (const name of ['hsm1', 'hsm2']) {
      const [record] = await recordsOn(cluster, name, 'group');
      const { format: _format, ...rest } = record as Record<string, unknown>;
      await replace(name, { ...rest, version: 1 });
    }
    const administration = newKey('first');
    expect(await refusal(signGroup(twoOf(administration)))).toMatch(/raise it with `pkcs11-ha group upgrade`/u);
    const token = await cluster.open(twoOf());
    await token.upgradeGroup();
    expect(await signGroup(twoOf(administration))).toMatchObject({ publicKey: administration.publicKey });
  });

  test('is signed without a member that nobody knows', async () => {
    await forge(withStranger);
    const administration = newKey('first');
    expect(await signGroup(twoOf(administration), { without: ['stranger'] })).toMatchObject({
      members: [{ name: 'hsm1' }, { name: 'hsm2' }],
      leftOut: ['stranger'],
    });
    const token = await cluster.open(twoOf(administration));
    await token.rekeyGroup();
    await token.addMember(third());
    expect(await heldForStranger()).toEqual([]);
  });
});

test('the administration key is changed while applications run', async () => {
  const unsigned = await recordsOn(cluster, 'hsm1', 'group');
  const former = (unsigned[0] as { signature: { key: string } }).signature.key;
  const next = newKey('next');
  const both = [former, next.publicKey];
  const application = await cluster.open(twoOf({ publicKey: both }));
  const sealed = await application.generateKey('AES_KEY_GEN', { ...aes, label: 'sealed' });
  const administrator = await cluster.open(twoOf({ publicKey: both, key: next.key }));
  await administrator.rekeyGroup();
  await application.generateKey('AES_KEY_GEN', { ...aes, label: 'after' });
  const later = await cluster.open(twoOf(next));
  expect(later.status().isSigned).toBe(true);
  await later.addMember(third());
  const text = await application.encrypt('AES_ECB', sealed, 'sixteen bytes...');
  expect(await later.encrypt('AES_ECB', sealed.handle, 'sixteen bytes...')).toEqual(text);
  await until(
    async () => (await later.synchronize({ dryRun: true })).differences.length === 0,
    () => 'the new member has all keys',
  );
});

test('a private key that is not that of the configured public one is refused before anything is changed', async () => {
  const { publicKey } = newKey('one');
  const { key } = newKey('other');
  await expect(signGroup(twoOf({ publicKey, key }))).rejects.toThrow(
    'administration.key: expected the private half of administration.publicKey',
  );
  writeFileSync(key.file, 'no key\n');
  await expect(signGroup(twoOf({ publicKey, key }))).rejects.toThrow(
    'administration.key: expected a private key of 64 hexadecimal digits',
  );
});
