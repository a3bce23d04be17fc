import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { Difference } from '../../../src/index.js';
import { Cluster, pidOf, untilState } from '../../support/cluster.js';
import { secretKey } from '../../support/keys.js';
import { provision } from '../../support/softhsm.js';
import { until } from '../../support/waiting.js';

let cluster: Cluster;
beforeEach(async () => {
  cluster = await Cluster.form('synchronization');
});
afterEach(() => cluster.close());

const aes = { token: true, valueLen: 32, encrypt: true, sensitive: true };
const told = (differences: readonly Difference[]): string[] =>
  differences.map(({ kind, member, object, action }) => `${kind} ${member} ${object.label} ${action}`).sort();

test('a group that is in step has no differences', async () => {
  const token = await cluster.open();
  await token.generateKey('AES_KEY_GEN', { ...aes, label: 'one' });
  await token.createObject({ class: 'DATA', token: true, label: 'data', value: Buffer.from('data') });
  const report = await token.synchronize();
  expect(report).toEqual({
    dryRun: false,
    members: [
      { name: 'hsm1', objects: 2 },
      { name: 'hsm2', objects: 2 },
    ],
    away: [],
    differences: [],
  });
});

test('objects that another program removed or added are found, and repaired', async () => {
  const token = await cluster.open();
  const sealed = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'sealed', extractable: false });
  const plain = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'plain', extractable: true });
  await token.createObject({ class: 'DATA', token: true, private: true, label: 'data', value: Buffer.from('data') });
  const before = await Promise.all([sealed, plain].map((key) => token.encrypt('AES_ECB', key, 'sixteen bytes...')));
  // Acts as the vendor's own tool: removes three objects from one token, and adds one to the other.
  const [one, two] = cluster.members;
  if (one === undefined || two === undefined) throw new Error('two members');
  await provision(two.hsm, { destroy: ['sealed', 'plain', 'data'] });
  await provision(one.hsm, { objects: secretKey('brought', Buffer.from([7])).objects });
  const expected = ['missing hsm2 brought', 'missing hsm2 data', 'missing hsm2 plain', 'missing hsm2 sealed'];

  const dry = await token.synchronize({ dryRun: true });
  expect(told(dry.differences)).toEqual(expected.map((each) => `${each} reported`));
  expect((await cluster.read('hsm2')).map(({ label }) => label)).toEqual([]);

  const report = await token.synchronize();
  expect(told(report.differences)).toEqual(expected.map((each) => `${each} repaired`));
  expect(await cluster.read('hsm2')).toEqual(await cluster.read('hsm1'));
  expect((await token.synchronize()).differences).toEqual([]);
  await token.close();
  const whole = cluster.configuration();
  const alone = await cluster.open({ ...whole, members: whole.members.slice(1) });
  const after = await Promise.all(
    [sealed, plain].map((key) => alone.encrypt('AES_ECB', key.handle, 'sixteen bytes...')),
  );
  expect(after).toEqual(before);
});

test('[Rule 12] another key of the same name is reported, not used, and nothing is destroyed', async () => {
  const token = await cluster.open();
  const id = Buffer.from([9]);
  const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'shared', id });
  const before = await token.encrypt('AES_ECB', key, 'sixteen bytes...');
  const [, two] = cluster.members;
  if (two === undefined) throw new Error('two members');
  await provision(two.hsm, { destroy: ['shared'] });
  await provision(two.hsm, { objects: secretKey('shared', id).objects });
  const report = await token.synchronize();
  expect(told(report.differences)).toEqual(['foreign hsm2 shared reported', 'misaligned hsm2 shared repaired']);
  expect((await cluster.read('hsm2')).filter(({ label }) => label === 'shared')).toHaveLength(2);
  await token.close();
  const whole = cluster.configuration();
  const alone = await cluster.open({ ...whole, members: whole.members.slice(1) });
  expect(await alone.encrypt('AES_ECB', key.handle, 'sixteen bytes...')).toEqual(before);
});

test('a member that returns gets keys that it lost meanwhile, also without a journal entry', async () => {
  const token = await cluster.open();
  await token.generateKey('AES_KEY_GEN', { ...aes, label: 'lost', extractable: false });
  cluster.fault('hsm2', 'C_Initialize return=0x30');
  process.kill(pidOf(token, 'hsm2'), 'SIGKILL');
  await untilState(token, 'hsm2', 'down');
  const [, two] = cluster.members;
  if (two === undefined) throw new Error('two members');
  await provision(two.hsm, { destroy: ['lost'] });
  cluster.heal();
  await untilState(token, 'hsm2', 'active');
  expect(await cluster.read('hsm2')).toEqual(await cluster.read('hsm1'));
});

test('[Rule 6] a PIN that a token refuses is tried there once, however often tokens are compared', async () => {
  const token = await cluster.open();
  cluster.fault('hsm2', 'C_Login return=0xa0');
  for (let i = 0; i < 3; i += 1) await token.synchronize({ dryRun: true }).catch(() => undefined);
  expect(cluster.met('hsm2').filter((line) => line.includes('C_Login'))).toHaveLength(1);
});

test('a key of the group and one that another program put there under the same name are no difference', async () => {
  const id = Buffer.from([3]);
  const { objects } = secretKey('shared', id);
  for (const { hsm } of cluster.members) await provision(hsm, { objects });
  const token = await cluster.open();
  const before = await token.get({ label: 'shared' });
  await token.generateKey('AES_KEY_GEN', { ...aes, label: 'shared', id });
  expect((await token.synchronize({ dryRun: true })).differences).toEqual([]);
  expect((await token.find({ label: 'shared' })).map(({ handle }) => handle)).toContain(before.handle);
});

test('a certificate without a value is copied', async () => {
  const token = await cluster.open();
  await token.createObject({
    class: 'CERTIFICATE',
    token: true,
    label: 'empty',
    certType: 'X_509',
    subject: Buffer.from('3000', 'hex'),
    value: Buffer.alloc(0),
  });
  await provision(cluster.member('hsm2').hsm, { destroy: ['empty'] });
  const isCopied = async (): Promise<boolean> => {
    await token.synchronize();
    return (await cluster.read('hsm2')).some(({ label }) => label === 'empty');
  };
  await until(isCopied, () => 'the certificate is copied');
});

test('a process no longer says that a member lacks a key which another process has brought to it', async () => {
  const [one, other] = [await cluster.open(), await cluster.open()];
  await one.generateKey('AES_KEY_GEN', { ...aes, label: 'lost', extractable: false });
  await one.close();
  const third = await cluster.open();
  await provision(cluster.member('hsm2').hsm, { destroy: ['lost'] });
  await third.find();
  const absent = third.status().drift.map(({ label, standings }) => `${label} ${standings.hsm2}`);
  expect(absent).toEqual(['lost absent']);
  expect(told((await other.synchronize()).differences)).toEqual(['missing hsm2 lost repaired']);
  await third.find();
  expect(third.status().drift).toEqual([]);
});
