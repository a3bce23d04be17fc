import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { GroupConfigInput, VirtualToken } from '../../../src/index.js';
import { Cluster, pidOf, quickPolicy, stateOf, untilState } from '../../support/cluster.js';
import { makeHsm, provision } from '../../support/softhsm.js';
import { until, within } from '../../support/waiting.js';

let cluster: Cluster;
beforeEach(async () => {
  cluster = await Cluster.form('away');
});
afterEach(() => cluster.close());

const aes = { token: true, valueLen: 32, encrypt: true, sensitive: true, extractable: false };
const data = 'sixteen bytes...';

/** Returns the configuration of an application, on a machine of its own, that can reach one member only. */
const onlyOn = (name: string): GroupConfigInput => {
  const whole = cluster.configuration();
  const locks = join(cluster.folder.path, `locks of ${name}`);
  return { ...whole, locks, members: whole.members.filter((member) => member.name === name) };
};

async function lose(token: VirtualToken, name: string): Promise<void> {
  cluster.fault(name, 'C_Initialize return=0x30');
  process.kill(pidOf(token, name), 'SIGKILL');
  await untilState(token, name, 'down');
}

async function labelsOn(name: string): Promise<readonly string[]> {
  return (await cluster.read(name)).map(({ label }) => label).sort();
}

async function expectSettled(): Promise<void> {
  await cluster.untilTidy(['hsm1', 'hsm2']);
  expect(await cluster.read('hsm2')).toEqual(await cluster.read('hsm1'));
  for (const name of ['hsm1', 'hsm2']) expect(await cluster.readOwn(name)).not.toContain('pkcs11-ha:probe');
}

test('[Rule 16] a key destroyed while a member was away stays destroyed, and its successor of the same name reaches the member', async () => {
  const token = await cluster.open();
  const id = Buffer.from([1, 2]);
  const old = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'K', id });
  const ofOld = await token.encrypt('AES_ECB', old, data);
  await lose(token, 'hsm2');
  await token.destroyObject(old);
  const successor = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'K', id });
  const ofNew = await token.encrypt('AES_ECB', successor, data);
  expect(ofNew).not.toEqual(ofOld);
  cluster.heal();
  await untilState(token, 'hsm2', 'active');
  expect(await labelsOn('hsm1')).toEqual(['K']);
  await expectSettled();
  await token.close();
  const alone = await cluster.open(onlyOn('hsm2'));
  expect(await alone.encrypt('AES_ECB', successor.handle, data)).toEqual(ofNew);
});

test('[Rule 16] an object destroyed in a second try stays destroyed when the member with the intent of the first try returns', async () => {
  // Sets hangAfter long enough for the caller to leave during the hang.
  const token = await cluster.open(cluster.configuration({ ...quickPolicy, hangAfter: 3000 }));
  const object = await token.createObject({ class: 'DATA', token: true, label: 'D', value: Buffer.from('data') });
  cluster.fault('hsm1', 'C_DestroyObject hang times=1', 'C_Initialize return=0x30');
  const leaving = new AbortController();
  const first = token.destroyObject(object, { signal: leaving.signal });
  await cluster.untilMet('hsm1', /C_DestroyObject hang/u);
  leaving.abort();
  await expect(first).rejects.toThrow();
  await untilState(token, 'hsm1', 'down');
  await token.destroyObject(object);
  cluster.heal();
  await untilState(token, 'hsm1', 'active');
  expect([await labelsOn('hsm1'), await labelsOn('hsm2')]).toEqual([[], []]);
  await expectSettled();
});

test('a change that ends just before a member serves reaches that member', async () => {
  const token = await cluster.open();
  const value = { class: 'SECRET_KEY', keyType: 'AES', value: randomBytes(32), encrypt: true } as const;
  await token.createObject({ ...value, token: false, label: 'of the session' });
  await lose(token, 'hsm2');
  // Stops the member at the last step of its recovery, the copy of the session object.
  cluster.fault('hsm2', 'C_UnwrapKey hang times=1');
  await cluster.untilMet('hsm2', /C_UnwrapKey hang/u);
  await token.generateKey('AES_KEY_GEN', { ...aes, label: 'late' });
  cluster.heal();
  await untilState(token, 'hsm2', 'active');
  expect(await labelsOn('hsm2')).toEqual(['late']);
});

// Takes two calls of a recovery that have no other limit.
test.each([4, 8])(
  '[Rule 9] a host whose recovery hangs in a call is killed, and the member comes back (%s calls before)',
  async (skip) => {
    const token = await cluster.open();
    const keys = [await token.generateKey('AES_KEY_GEN', { ...aes, label: 'before' })];
    await lose(token, 'hsm2');
    keys.push(await token.generateKey('AES_KEY_GEN', { ...aes, label: 'meanwhile' }));
    cluster.fault('hsm2', `C_FindObjects hang skip=${skip}`);
    await cluster.untilMet('hsm2', /C_FindObjects hang/u);
    await untilState(token, 'hsm2', 'down');
    cluster.heal();
    await untilState(token, 'hsm2', 'active');
    expect(await labelsOn('hsm2')).toEqual(['before', 'meanwhile']);
    for (const key of keys) expect(await token.encrypt('AES_ECB', key, data)).toHaveLength(16);
  },
);

test('[Rule 16] applications that saw different members die converge: destroy wins over set, a later set over an earlier one', async () => {
  const before = await cluster.open();
  const x = await before.generateKey('AES_KEY_GEN', { ...aes, label: 'X' });
  const y = await before.generateKey('AES_KEY_GEN', { ...aes, label: 'Y' });
  const ofY = await before.encrypt('AES_ECB', y, data);
  await before.close();
  const a = await cluster.open(onlyOn('hsm1'));
  const b = await cluster.open(onlyOn('hsm2'));
  await b.setAttributes(x.handle, { label: 'X of B' });
  await a.destroyObject(x.handle);
  await a.setAttributes(y.handle, { label: 'Y of A' });
  await b.setAttributes(y.handle, { label: 'Y of B' });
  await Promise.all([a.close(), b.close()]);
  const both = await cluster.open();
  await Promise.all(['hsm1', 'hsm2'].map((name) => untilState(both, name, 'active')));
  // Waits for the member that came into service first, which gets the other's changes a moment later.
  let labels: readonly (readonly string[])[] = [];
  const haveConverged = async (): Promise<boolean> => {
    await both.find();
    labels = await Promise.all(['hsm1', 'hsm2'].map(labelsOn));
    return JSON.stringify(labels) === '[["Y of B"],["Y of B"]]';
  };
  await until(haveConverged, () => `both members have Y of B only: ${JSON.stringify(labels)}`);
  await Promise.all(['hsm1', 'hsm2'].map((name) => untilState(both, name, 'active')));
  expect(await both.encrypt('AES_ECB', y.handle, data)).toEqual(ofY);
  await expect(both.encrypt('AES_ECB', x.handle, data)).rejects.toMatchObject({ code: 0x60 });
});

test('[Rule 16] two applications that recover the same member at once make no object twice', async () => {
  const token = await cluster.open();
  await lose(token, 'hsm2');
  for (let i = 0; i < 12; i += 1) {
    await token.generateKey('AES_KEY_GEN', { ...aes, label: `key ${i}`, extractable: i % 2 === 0 });
    await token.createObject({ class: 'DATA', token: true, label: `data ${i}`, value: randomBytes(20) });
  }
  const other = await cluster.open();
  cluster.heal();
  await Promise.all([token, other].map((each) => untilState(each, 'hsm2', 'active')));
  await Promise.all([token, other].map((each) => untilState(each, 'hsm2', 'active')));
  expect(await labelsOn('hsm2')).toHaveLength(24);
  await expectSettled();
});

test('[Rule 16] a change that a member has caught up with is not applied again, although another member still has its journal entry', async () => {
  const three = await Cluster.form('away-done', [[], [], []]);
  try {
    const token = await three.open();
    const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'key', decrypt: false });
    const loseOf = async (name: string): Promise<void> => {
      three.fault(name, 'C_Initialize return=0x30');
      process.kill(pidOf(token, name), 'SIGKILL');
      await untilState(token, name, 'down');
    };
    await loseOf('hsm2');
    await token.setAttributes(key, { decrypt: true });
    // Takes hsm3 away with its journal entry for hsm2; hsm2 catches up from hsm1, and then the change is reversed.
    await loseOf('hsm3');
    three.fault('hsm2');
    await untilState(token, 'hsm2', 'active');
    await three.untilTidy(['hsm1']);
    await token.setAttributes(key, { decrypt: false });
    const moves: string[] = [];
    token.on('member', ({ member, to, reason }) => {
      // A busy machine may make a member suspect for a moment; a new host would apply the change again.
      if (member !== 'hsm3' && (to === 'down' || to === 'joining')) moves.push(`${member} ${to} ${reason}`);
    });
    three.heal();
    await untilState(token, 'hsm3', 'active');
    await three.untilTidy();
    expect(moves).toEqual([]);
    for (const name of ['hsm1', 'hsm2', 'hsm3'])
      expect((await three.read(name)).map(({ flags }) => flags.includes('DECRYPT'))).toEqual([false]);
  } finally {
    await three.close();
  }
});

describe('a member that returns while the members with its missed changes are away', () => {
  test('is stale: signs, takes no change, and catches up when they are back', async () => {
    const token = await cluster.open();
    const old = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'old' });
    const result = await token.encrypt('AES_ECB', old, data);
    await lose(token, 'hsm2');
    await token.generateKey('AES_KEY_GEN', { ...aes, label: 'meanwhile' });
    await lose(token, 'hsm1');
    cluster.fault('hsm2');
    await untilState(token, 'hsm2', 'stale');
    expect(token.status().members[1]?.reason).toMatch(/has missed 1 change/u);
    expect(await token.encrypt('AES_ECB', old, data)).toEqual(result);
    const refused = token.generateKey('AES_KEY_GEN', { ...aes, label: 'refused' }, { deadline: 300 });
    await expect(refused).rejects.toThrow(/hsm2 is stale/u);
    cluster.heal();
    await untilState(token, 'hsm1', 'active');
    await untilState(token, 'hsm2', 'active');
    expect(await labelsOn('hsm2')).toEqual(['meanwhile', 'old']);
    await expectSettled();
  });

  test('is stale also if such a member serves, but fails to give its records', async () => {
    const token = await cluster.open();
    await token.generateKey('AES_KEY_GEN', { ...aes, label: 'old' });
    await lose(token, 'hsm2');
    await token.generateKey('AES_KEY_GEN', { ...aes, label: 'meanwhile' });
    cluster.fault('hsm1', 'C_FindObjectsInit return=0x30');
    cluster.fault('hsm2');
    const states: string[] = [];
    token.on('member', ({ member, to }) => {
      if (member === 'hsm2') states.push(to);
    });
    // Waits for the event: the state is there a moment before.
    const serving = (): string[] => states.filter((state) => state === 'active' || state === 'stale');
    await until(
      () => serving().length > 0,
      () => 'hsm2 serves',
    );
    expect(serving()).toEqual(['stale']);
    cluster.heal();
    await Promise.all(['hsm1', 'hsm2'].map((name) => untilState(token, name, 'active')));
    expect(await labelsOn('hsm2')).toEqual(['meanwhile', 'old']);
    await expectSettled();
  });

  test('does not serve with stale: refuse', async () => {
    const policy = { hangAfter: 400, deadline: 20_000, stale: 'refuse' } as const;
    const token = await cluster.open(cluster.configuration(policy));
    await lose(token, 'hsm2');
    await token.generateKey('AES_KEY_GEN', { ...aes, label: 'meanwhile' });
    await lose(token, 'hsm1');
    cluster.fault('hsm2');
    const refused = new Promise<void>((resolve) => {
      token.on('member', ({ member, to, reason }) => {
        if (member === 'hsm2' && to === 'down' && /has missed 1 change/u.test(reason)) resolve();
      });
    });
    await within(refused, () => `hsm2 is refused as stale: ${token.status().members[1]?.reason}`);
    cluster.heal();
    await untilState(token, 'hsm1', 'active');
    await untilState(token, 'hsm2', 'active');
    await expectSettled();
  });
});

describe('a token that was replaced', () => {
  test('[Rule 14] by an empty one with another serial does not serve, and no key is destroyed', async () => {
    const whole = cluster.configuration();
    const byLabel = {
      ...whole,
      members: whole.members.map((member) => ({ ...member, token: { label: member.name } })),
    };
    const token = await cluster.open(byLabel);
    const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'kept' });
    const result = await token.encrypt('AES_ECB', key, data);
    await lose(token, 'hsm2');
    const [, second] = cluster.members;
    if (second === undefined) throw new Error('two members');
    // Replaces the storage by an empty token with the same label, as new hardware.
    rmSync(second.hsm.directory, { recursive: true, force: true });
    const fresh = await makeHsm(cluster.folder.path, 'hsm2');
    const env = { ...whole.members[1]?.env, ...fresh.env };
    cluster.heal();
    await token.close();
    const replaced = {
      ...byLabel,
      members: byLabel.members.map((member) => (member.name === 'hsm2' ? { ...member, env } : member)),
    };
    const again = await cluster.open(replaced);
    expect(stateOf(again.status(), 'hsm2')).not.toBe('active');
    expect(again.status().members[1]?.reason).toMatch(/no group record|not one of the group/u);
    expect(await again.encrypt('AES_ECB', key.handle, data)).toEqual(result);
    expect(await labelsOn('hsm1')).toEqual(['kept']);
    // Removes the member and adds it again, as an operator would.
    await again.removeMember('hsm2');
    const [, member] = replaced.members;
    if (member === undefined) throw new Error('two members');
    await again.addMember(member);
    expect(stateOf(again.status(), 'hsm2')).toBe('active');
    await again.close();
    const alone = await cluster.open({ ...replaced, members: [member] });
    expect(await alone.encrypt('AES_ECB', key.handle, data)).toEqual(result);
  });

  test('[Rule 14] by a new initialisation, with the same serial, does not serve either', async () => {
    const token = await cluster.open();
    const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'kept' });
    const result = await token.encrypt('AES_ECB', key, data);
    await lose(token, 'hsm2');
    const { hsm } = cluster.member('hsm2');
    const { serial } = await provision(hsm, { reinitialize: true });
    expect(serial).toBe(hsm.serial);
    cluster.heal();
    const refused = new Promise<string>((resolve) => {
      token.on('member', (event) => {
        if (event.member === 'hsm2' && event.to === 'down' && !/DEVICE_ERROR|loaded/u.test(event.reason))
          resolve(event.reason);
      });
    });
    const reason = await within(refused, () => `hsm2 is refused: ${token.status().members[1]?.reason}`);
    expect(reason).toMatch(/no group record/u);
    expect(await labelsOn('hsm1')).toEqual(['kept']);
    expect(await cluster.readOwn('hsm2')).toEqual([]);
    const fresh = await cluster.open();
    expect(stateOf(fresh.status(), 'hsm2')).not.toBe('active');
    expect(await fresh.encrypt('AES_ECB', key.handle, data)).toEqual(result);
    await fresh.close();
    await token.removeMember('hsm2');
    const [, member] = cluster.configuration().members;
    if (member === undefined) throw new Error('two members');
    await token.addMember(member);
    await token.close();
    const alone = await cluster.open(onlyOn('hsm2'));
    expect(await alone.encrypt('AES_ECB', key.handle, data)).toEqual(result);
  });
});
