import { createHmac, randomBytes } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import YAML from 'yaml';
import type { GroupConfigInput } from '../../../src/index.js';
import { undrainMember, VirtualToken } from '../../../src/index.js';
import { Cluster, pidOf, stateOf, untilState } from '../../support/cluster.js';
import type { ReadObject } from '../../support/softhsm.js';
import { until } from '../../support/waiting.js';

let cluster: Cluster;
beforeEach(async () => {
  // Makes three tokens, of which the first two form the group.
  cluster = await Cluster.form('membership', [[], [], []], 2);
});
afterEach(() => cluster.close());

type Configuration = ReturnType<Cluster['configuration']>;

/** Policy with a long limit for writes, since making key pairs takes seconds. */
const policy = { hangAfter: 400, writeHangAfter: 10_000, deadline: 20_000 } as const;

function twoOf(more: GroupConfigInput['policy'] = {}): Configuration {
  const whole = cluster.configuration({ ...policy, ...more });
  return { ...whole, members: whole.members.slice(0, 2) };
}
const memberOf = (name: string): Configuration['members'][number] => {
  const found = cluster.configuration(policy).members.find((member) => member.name === name);
  if (found === undefined) throw new Error(`no member ${name}`);
  return found;
};

const aes = { token: true, valueLen: 32, encrypt: true, decrypt: true, sensitive: true };
const data = Buffer.from('sixteen bytes...');

interface Made {
  readonly handle: number;
  readonly result: Buffer;
}

/** Makes keys of every wrapping method: extractable, sealed, of odd length; a data object; and a renamed key. */
async function makeKeys(token: VirtualToken): Promise<Made[]> {
  const made: Made[] = [];
  for (const extractable of [true, false]) {
    const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: `aes ${extractable}`, extractable });
    made.push({ handle: key.handle, result: await token.encrypt('AES_ECB', key, data) });
    const value = randomBytes(33);
    const odd = await token.createObject({
      class: 'SECRET_KEY',
      keyType: 'GENERIC_SECRET',
      token: true,
      label: `odd ${extractable}`,
      value,
      sign: true,
      extractable,
    });
    made.push({ handle: odd.handle, result: createHmac('sha256', value).update(data).digest() });
  }
  await token.createObject({ class: 'DATA', token: true, private: true, label: 'data', value: data });
  const renamed = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'old name', extractable: false });
  await token.setAttributes(renamed, { label: 'new name' });
  made.push({ handle: renamed.handle, result: await token.encrypt('AES_ECB', renamed, data) });
  return made;
}

async function expectAll(token: VirtualToken, made: readonly Made[]): Promise<void> {
  for (const { handle, result } of made) {
    const mechanism = result.length === 32 ? 'SHA256_HMAC' : 'AES_ECB';
    const got = await (mechanism === 'AES_ECB'
      ? token.encrypt(mechanism, handle, data)
      : token.sign(mechanism, handle, data));
    expect(got).toEqual(result);
  }
}

/** Expects that the members' tokens hold the same objects. */
async function expectAlike(...names: readonly string[]): Promise<void> {
  await cluster.untilTidy(names);
  const read = await Promise.all(names.map((name) => cluster.read(name)));
  const [first = []] = read;
  expect(first.length).toBeGreaterThan(0);
  for (const each of read) expect(each).toEqual(first as ReadObject[]);
}

/** Waits until the former domain key is gone. */
async function untilOneDomainKey(): Promise<void> {
  const isOne = async (): Promise<boolean> =>
    (await cluster.readOwn('hsm1')).filter((label) => label === 'pkcs11-ha:domain').length === 1;
  await until(isOne, () => 'the former domain key is removed');
}

const onlyOn = (name: string): Configuration => {
  const whole = cluster.configuration(policy);
  return { ...whole, members: whole.members.filter((member) => member.name === name) };
};

test('[Rule 11] a new member gets all keys, sealed ones too, and serves them under the same handles', async () => {
  const token = await cluster.open(twoOf());
  const made = await makeKeys(token);
  const { serial } = token;
  await token.addMember(memberOf('hsm3'));
  expect(stateOf(token.status(), 'hsm3')).toBe('active');
  expect(token.serial).toBe(serial);
  await expectAlike('hsm1', 'hsm2', 'hsm3');
  const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'later', extractable: false });
  made.push({ handle: key.handle, result: await token.encrypt('AES_ECB', key, data) });
  await token.close();
  const alone = await cluster.open(onlyOn('hsm3'));
  await expectAll(alone, made);
});

test('a member that is removed and wiped keeps nothing, and the domain key is replaced', async () => {
  const token = await cluster.open(twoOf({ freshness: 100 }));
  const made = await makeKeys(token);
  await token.addMember(memberOf('hsm3'));
  const report = await token.removeMember('hsm2', { wipe: true });
  expect(report).toMatchObject({ member: 'hsm2', cleaned: true });
  expect(await cluster.read('hsm2')).toEqual([]);
  expect(await cluster.readOwn('hsm2')).toEqual([]);
  expect(token.status().members.map(({ name }) => name)).toEqual(['hsm1', 'hsm3']);
  await expectAll(token, made);
  // Waits until only the new domain key is left, under which all sealed keys are wrapped again.
  await untilOneDomainKey();
  await token.close();
  const rest = { ...cluster.configuration(policy), members: [memberOf('hsm1'), memberOf('hsm3')] };
  const other = await cluster.open(rest);
  await expectAll(other, made);
});

test('a removed member gets no record after it was cleaned', async () => {
  const first = await cluster.open(twoOf());
  await first.addMember(memberOf('hsm3'));
  await first.close();
  // Sets freshness so low that the removal itself retires the former domain keys.
  const token = await cluster.open({ ...cluster.configuration({ ...policy, freshness: 5 }) });
  await Promise.all(['hsm1', 'hsm2', 'hsm3'].map((name) => untilState(token, name, 'active')));
  expect(await token.removeMember('hsm3')).toMatchObject({ cleaned: true });
  expect(await cluster.readOwn('hsm3')).toEqual([]);
});

test('a session object survives the end of all hosts, also after a change of the domain key', async () => {
  const token = await cluster.open(twoOf({ freshness: 100 }));
  const key = await token.generateKey('AES_KEY_GEN', { ...aes, token: false, extractable: false });
  const result = await token.encrypt('AES_ECB', key, data);
  await token.addMember(memberOf('hsm3'));
  await untilOneDomainKey();
  for (const name of ['hsm1', 'hsm2', 'hsm3']) {
    process.kill(pidOf(token, name), 'SIGKILL');
    await untilState(token, name, 'down', 'joining');
    await untilState(token, name, 'active');
  }
  expect(await token.encrypt('AES_ECB', key, data)).toEqual(result);
});

test('a member that is away can be removed, and does not serve when it comes back', async () => {
  const token = await cluster.open(twoOf());
  const made = await makeKeys(token);
  await token.addMember(memberOf('hsm3'));
  cluster.fault('hsm2', 'C_Initialize return=0x30');
  process.kill(pidOf(token, 'hsm2'), 'SIGKILL');
  await untilState(token, 'hsm2', 'down');
  expect(await token.removeMember('hsm2')).toMatchObject({ cleaned: false });
  await token.destroyObject((await token.get({ label: 'data' })).handle);
  await token.close();
  cluster.heal();
  const again = await cluster.open(cluster.configuration(policy));
  expect(again.status().members.find(({ name }) => name === 'hsm2')).toMatchObject({
    reason: expect.stringMatching(/removed from the group|does not know this token|not one of the group/u),
  });
  await expectAll(again, made);
  expect(await again.find({ label: 'data' })).toEqual([]);
});

describe('another process', () => {
  test('follows members that were added and removed', async () => {
    const one = await cluster.open(twoOf());
    const made = await makeKeys(one);
    const other = await cluster.open(twoOf());
    await expectAll(other, made);
    await one.addMember(memberOf('hsm3'));
    await one.removeMember('hsm2');
    const key = await one.generateKey('AES_KEY_GEN', { ...aes, label: 'later', extractable: false });
    made.push({ handle: key.handle, result: await one.encrypt('AES_ECB', key, data) });
    // Makes calls until the process has read the new group record beside them.
    const isGone = async (): Promise<boolean> => {
      await other.find();
      const second = other.status().members.find(({ name }) => name === 'hsm2');
      return second === undefined || second.state === 'drained' || second.state === 'down';
    };
    await until(isGone, () => 'the other process leaves hsm2');
    await expectAll(other, made);
    const theirs = await other.generateKey('AES_KEY_GEN', { ...aes, label: 'theirs', extractable: false });
    made.push({ handle: theirs.handle, result: await other.encrypt('AES_ECB', theirs, data) });
    // Waits for the new key on hsm3, which the other process cannot reach: its journal entry names hsm3.
    await until(
      async () => (await one.find({ label: 'theirs' })).length > 0,
      () => 'the key of the other process is found',
    );
    await expectAll(one, made);
    const isOnThird = async (): Promise<boolean> => {
      await one.find({ label: 'theirs' });
      return (await cluster.read('hsm3')).some(({ label }) => label === 'theirs');
    };
    await until(isOnThird, () => 'hsm3 gets the key of the other process');
    await one.close();
    await other.close();
    const alone = await cluster.open(onlyOn('hsm3'));
    await expectAll(alone, made);
  });
});

test('a drained member finishes its calls, takes no more, and catches up when it is undrained', async () => {
  const token = await cluster.open(twoOf());
  const made = await makeKeys(token);
  const running = Promise.all(
    made.map(({ handle, result }) =>
      result.length === 16 ? token.encrypt('AES_ECB', handle, data) : token.sign('SHA256_HMAC', handle, data),
    ),
  );
  await token.drain('hsm2');
  expect(await running).toEqual(made.map(({ result }) => result));
  expect(stateOf(token.status(), 'hsm2')).toBe('drained');
  await expect(token.drain('hsm1')).rejects.toMatchObject({ code: 0x1b });
  const other = await cluster.open(twoOf());
  expect(stateOf(other.status(), 'hsm2')).toBe('drained');
  const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'meanwhile', extractable: false });
  made.push({ handle: key.handle, result: await token.encrypt('AES_ECB', key, data) });
  await token.undrain('hsm2');
  await expectAlike('hsm1', 'hsm2');
  await expectAll(token, made);
});

describe('a drained member that is the only one left', () => {
  test('can be undrained by an open application, and then serves all applications', async () => {
    const token = await cluster.open(twoOf());
    const other = await cluster.open(twoOf());
    const made = await makeKeys(token);
    await token.drain('hsm2');
    await untilState(other, 'hsm2', 'drained');
    cluster.fault('hsm1', 'C_Initialize return=0x30');
    for (const each of [token, other]) {
      process.kill(pidOf(each, 'hsm1'), 'SIGKILL');
      await untilState(each, 'hsm1', 'down');
    }
    await token.undrain('hsm2');
    await expectAll(token, made);
    await expectAll(other, made);
    cluster.heal();
    await untilState(token, 'hsm1', 'active');
    await expectAlike('hsm1', 'hsm2');
  });

  test('can be undrained by an application that has not seen the drain, while the last active member hangs', async () => {
    const token = await cluster.open(twoOf());
    const other = await cluster.open(twoOf());
    const made = await makeKeys(token);
    await token.drain('hsm2');
    cluster.fault('hsm1', '* hang');
    await other.undrain('hsm2');
    await expectAll(other, made);
    await untilState(token, 'hsm2', 'active');
    await expectAll(token, made);
    cluster.heal();
    await untilState(token, 'hsm1', 'active');
    await expectAlike('hsm1', 'hsm2');
  });

  test('can be undrained if the configuration drains the others', async () => {
    const before = await cluster.open(twoOf());
    const made = await makeKeys(before);
    await before.drain('hsm2');
    await before.close();
    const [hsm1, hsm2] = twoOf().members;
    await undrainMember({ ...twoOf(), members: [{ ...hsm1, drained: true }, hsm2] as never }, 'hsm2');
    await expectAll(await cluster.open(twoOf()), made);
  });

  test('is not drained too by another application at the same time', async () => {
    const [one, other] = [await cluster.open(twoOf()), await cluster.open(twoOf())];
    const ended = await Promise.allSettled([one.drain('hsm1'), other.drain('hsm2')]);
    expect(ended.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    await untilState(one, ended[0].status === 'fulfilled' ? 'hsm2' : 'hsm1', 'active');
  });

  test('can be undrained when no application can open the group any more', async () => {
    const before = await cluster.open(twoOf());
    const made = await makeKeys(before);
    await before.drain('hsm2');
    await before.close();
    cluster.fault('hsm1', 'C_Initialize return=0x30');
    await expect(cluster.open({ ...twoOf(), policy: { deadline: 1500 } })).rejects.toMatchObject({ code: 0x32 });
    await expect(undrainMember(twoOf(), 'hsm4')).rejects.toMatchObject({ code: 0x7 });
    await undrainMember(twoOf(), 'hsm2');
    await expectAll(await cluster.open(twoOf()), made);
  });
});

test('a standby is in step, is promoted when no other member serves, and can be demoted again', async () => {
  const token = await cluster.open(twoOf());
  await token.addMember({ ...memberOf('hsm3'), standby: true });
  expect(stateOf(token.status(), 'hsm3')).toBe('standby');
  const made = await makeKeys(token);
  await expectAlike('hsm1', 'hsm2', 'hsm3');
  for (const name of ['hsm1', 'hsm2']) {
    cluster.fault(name, 'C_Initialize return=0x30');
    process.kill(pidOf(token, name), 'SIGKILL');
  }
  await untilState(token, 'hsm3', 'active');
  await expectAll(token, made);
  cluster.heal();
  for (const name of ['hsm1', 'hsm2']) await untilState(token, name, 'active');
  await untilState(token, 'hsm3', 'active');
  await token.demote('hsm3');
  await untilState(token, 'hsm3', 'standby');
  await token.promote('hsm3');
  await untilState(token, 'hsm3', 'active');
  await expectAll(token, made);
});

test('with manual recovery a lost member stays down until it is told to recover', async () => {
  const token = await cluster.open(twoOf({ recovery: 'manual' }));
  process.kill(pidOf(token, 'hsm2'), 'SIGKILL');
  await untilState(token, 'hsm2', 'down');
  const made = await makeKeys(token);
  expect(token.status().members[1]).toMatchObject({ state: 'down', retryIn: Number.POSITIVE_INFINITY });
  await token.recover('hsm2');
  expect(stateOf(token.status(), 'hsm2')).toBe('active');
  await expectAlike('hsm1', 'hsm2');
  await expectAll(token, made);
  cluster.fault('hsm2', 'C_Initialize return=0x30');
  process.kill(pidOf(token, 'hsm2'), 'SIGKILL');
  await untilState(token, 'hsm2', 'down');
  await expect(token.recover('hsm2')).rejects.toThrow(/hsm2 does not come back: .*DEVICE_ERROR/u);
});

describe('the configuration file', () => {
  const { stringify } = YAML;
  const write = (path: string, configuration: Configuration): void => {
    writeFileSync(`${path}.new`, stringify(configuration));
    renameSync(`${path}.new`, path);
  };
  const untilConfigured = (token: VirtualToken): Promise<string | undefined> =>
    new Promise((resolve) => token.once('configuration', ({ problem }) => resolve(problem)));

  test('is watched: members are added, drained and removed without a restart, and a broken file changes nothing', async () => {
    const path = join(cluster.folder.path, 'group.yaml');
    write(path, twoOf());
    const token = await VirtualToken.open(path);
    try {
      const { serial, label } = token;
      const operator = await cluster.open(twoOf());
      await operator.addMember(memberOf('hsm3'));
      await operator.close();
      let configured = untilConfigured(token);
      write(path, cluster.configuration(policy));
      expect(await configured).toBeUndefined();
      await untilState(token, 'hsm3', 'active');
      const made = await makeKeys(token);
      await expectAlike('hsm1', 'hsm2', 'hsm3');

      configured = untilConfigured(token);
      writeFileSync(path, 'label: [');
      expect(await configured).toMatch(/group\.yaml/u);
      await expectAll(token, made);

      const whole = cluster.configuration(policy);
      configured = untilConfigured(token);
      write(path, {
        ...whole,
        members: whole.members.map((member) => (member.name === 'hsm1' ? { ...member, drained: true } : member)),
      });
      expect(await configured).toBeUndefined();
      await untilState(token, 'hsm1', 'drained');
      await expectAll(token, made);

      configured = untilConfigured(token);
      write(path, { ...whole, members: [memberOf('hsm1'), memberOf('hsm3')] });
      expect(await configured).toBeUndefined();
      await untilState(token, 'hsm1', 'active');
      const isGone = async (): Promise<boolean> => {
        await token.find({ label: 'data' });
        return token.status().members.length === 2;
      };
      await until(isGone, () => 'the member is removed from the status');
      expect(token.status().members.map(({ name }) => name)).toEqual(['hsm1', 'hsm3']);
      await expectAll(token, made);
      expect([token.serial, token.label]).toEqual([serial, label]);
    } finally {
      await token.close();
    }
  });
});
