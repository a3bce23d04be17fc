import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { TokenObject, VirtualToken } from '../../../src/index.js';
import { Cluster, pidOf, untilState } from '../../support/cluster.js';

const LABEL = 'confirmed by one member';
const template = { class: 'DATA', token: true, label: LABEL, value: Buffer.from('data') } as const;

let cluster: Cluster;
beforeEach(async () => {
  cluster = await Cluster.form('whole-find');
});
afterEach(() => cluster.close());

/** Ends a member's host, and lets no other start. */
async function lose(token: VirtualToken, name: string): Promise<void> {
  cluster.fault(name, 'C_Initialize return=0x30');
  process.kill(pidOf(token, name), 'SIGKILL');
  await untilState(token, name, 'down');
}

const find = (token: VirtualToken, deadline?: number): Promise<readonly TokenObject[]> =>
  token.find({ label: LABEL }, deadline === undefined ? {} : { deadline });

test('[Rule 23] a member that missed a change does not say that its object is not there, while the other one is away', async () => {
  const token = await cluster.open();
  await lose(token, 'hsm1');
  await token.createObject(template);
  cluster.fault('hsm2', 'C_Initialize return=0x30');
  cluster.fault('hsm1');
  await untilState(token, 'hsm1', 'recovering', 'active', 'stale');
  process.kill(pidOf(token, 'hsm2'), 'SIGKILL');
  const found = find(token);
  cluster.heal();
  expect(await found).toHaveLength(1);
});

test('[Rule 23] an application hears of a change that another one made without a member', async () => {
  const [one, other] = await Promise.all([cluster.open(), cluster.open()]);
  await lose(other, 'hsm1');
  await other.createObject(template);
  await lose(one, 'hsm2');
  await expect(find(one, 600)).rejects.toThrow('hsm1 may lack objects that other members have');
  cluster.heal();
  expect(await find(one)).toHaveLength(1);
});

test('[Rule 23] an object that was destroyed without a member is not found there', async () => {
  const [one, other] = await Promise.all([cluster.open(), cluster.open()]);
  const object = await other.createObject(template);
  expect(await find(one)).toHaveLength(1);
  await lose(other, 'hsm1');
  await other.destroyObject(object);
  expect(await find(one)).toEqual([]);
});
