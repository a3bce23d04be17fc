import { afterEach, describe, expect, test } from '@jest/globals';
import type { VirtualToken } from '../../../src/index.js';
import { makeWriter } from '../../../src/runtime/processes/writer.js';
import { Cluster, pidOf, untilState } from '../../support/cluster.js';
import { readFixture } from '../../support/fixture.js';
import { startService } from '../../support/process.js';
import { provision } from '../../support/softhsm.js';

const fixture = readFixture('format-1');
const aes = { token: true, valueLen: 32, encrypt: true, sensitive: true };
const block = Buffer.alloc(16);
let cluster: Cluster;
afterEach(() => cluster.close());

/** Expects that all handles of the fixture name the objects that they named when it was made. */
async function expectSame(token: VirtualToken): Promise<void> {
  for (const { handle, result } of fixture.keys)
    expect((await token.encrypt('AES_ECB', handle, block)).toString('hex')).toBe(result);
  const found = await token.find();
  const handles = [...fixture.keys, ...fixture.objects].map(({ handle }) => handle);
  expect(found.map(({ handle }) => handle).sort()).toEqual(handles.sort());
}

/** Puts a record on hsm1, as another process would. */
async function plant(record: object): Promise<void> {
  const value = Buffer.from(JSON.stringify(record)).toString('hex');
  const common = { CLASS: 0, TOKEN: true, PRIVATE: true, APPLICATION: 'pkcs11-ha' };
  const object = { ...common, LABEL: 'pkcs11-ha:intent 0011223344556677', VALUE: `hex:${value}` };
  await provision(cluster.member('hsm1').hsm, { objects: [object] });
}

async function openWhole(): Promise<VirtualToken> {
  const token = await cluster.open();
  await Promise.all(['hsm1', 'hsm2'].map((name) => untilState(token, name, 'active')));
  return token;
}

describe('a group of record format 1', () => {
  test('[Rule 11] works as before; its keys keep their handles', async () => {
    cluster = Cluster.ofFixture('format-1');
    const token = await openWhole();
    await expectSame(token);
    const made = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'plain' });
    await token.setAttributes(made, { label: 'later' });
    expect((await (await cluster.open()).get({ label: 'later' })).handle).toBe(made.handle);
    await token.destroyObject(made);
    await expectSame(token);
  });

  test('[Rule 27] is upgraded: all handles stay, in this process and in others, and new keys have handles of their own', async () => {
    cluster = Cluster.ofFixture('format-1');
    const token = await openWhole();
    await token.find();
    const other = await cluster.open();
    expect(await token.upgradeGroup()).toEqual({ from: 1, to: 2, rewritten: { hsm1: 6, hsm2: 6 } });
    await expectSame(token);
    await expectSame(other);
    await expectSame(await cluster.open());
    expect(await token.upgradeGroup()).toEqual({ from: 2, to: 2, rewritten: { hsm1: 0, hsm2: 0 } });
    const [plain] = fixture.keys;
    const made = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'plain' });
    expect(made.handle).not.toBe(plain?.handle);
    await token.setAttributes(plain?.handle ?? 0, { label: 'plain no more' });
    const later = await cluster.open();
    expect((await later.get({ label: 'plain' })).handle).toBe(made.handle);
    expect((await later.get({ label: 'plain no more' })).handle).toBe(plain?.handle);
    await later.destroyObject(plain?.handle ?? 0);
    await expect(token.encrypt('AES_ECB', plain?.handle ?? 0, block, { deadline: 3000 })).rejects.toThrow();
    expect(await cluster.read('hsm1')).toEqual(await cluster.read('hsm2'));
  });

  test('is not upgraded while a member is away, or while a process that may live has an intent', async () => {
    cluster = Cluster.ofFixture('format-1');
    const token = await openWhole();
    cluster.fault('hsm2', 'C_Initialize return=0x30');
    process.kill(pidOf(token, 'hsm2'), 'SIGKILL');
    await untilState(token, 'hsm2', 'down');
    await expect(token.upgradeGroup({ deadline: 5000 })).rejects.toMatchObject({
      code: 0x32,
      message: expect.stringMatching(/hsm2 is not in service/u),
    });
    cluster.heal();
    await untilState(token, 'hsm2', 'active');
    await plant({
      version: 1,
      kind: 'intent',
      operation: '0011223344556677',
      what: 'destroy',
      notes: [],
      changes: [],
      former: [],
      alone: false,
      writer: makeWriter(),
      time: 1,
      expires: Date.now() + 60_000,
      missed: [],
    });
    await expect(token.upgradeGroup({ deadline: 5000 })).rejects.toMatchObject({
      code: 0x1b,
      message: expect.stringMatching(/another process is changing objects on hsm1/u),
    });
    await expectSame(token);
  });

  test('is upgraded by a second call if the first one is interrupted', async () => {
    for (const skip of [3, 9, 20, 31]) {
      cluster = Cluster.ofFixture('format-1');
      const service = startService('upgrade', cluster.configuration(), 'pipe');
      await service.told;
      cluster.fault('hsm2', `* orphan times=1 skip=${skip}`);
      service.child.stdin?.write('go\n');
      await service.ended;
      cluster.heal();
      const token = await openWhole();
      await expectSame(token);
      expect(await token.upgradeGroup()).toMatchObject({ to: 2 });
      await expectSame(token);
      await expectSame(await cluster.open());
      await cluster.close();
    }
  });
});
