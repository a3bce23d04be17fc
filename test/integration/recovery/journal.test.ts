import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { CKO } from '../../../src/spec/codes.js';
import { Cluster, untilState } from '../../support/cluster.js';
import { provision } from '../../support/softhsm.js';
import { until } from '../../support/waiting.js';

let cluster: Cluster;
beforeEach(async () => {
  cluster = await Cluster.form('journal');
});
afterEach(() => cluster.close());

const recordOf = (label: string, value: object): object => ({
  CLASS: CKO.data,
  TOKEN: true,
  PRIVATE: true,
  LABEL: `pkcs11-ha:${label}`,
  APPLICATION: 'pkcs11-ha',
  VALUE: JSON.stringify({ version: 1, ...value }),
});

test('[Rule 15] a journal entry stays while the intent of its call stands, so that the call is not undone', async () => {
  const [one, two] = cluster.members.map(({ hsm }) => hsm);
  if (one === undefined || two === undefined) throw new Error('two members');
  const token = await cluster.open();
  const key = await token.generateKey('AES_KEY_GEN', { token: true, label: 'K', valueLen: 32, encrypt: true });
  const { values } = await provision(two, { values: true });
  const records = values
    .filter((value) => value !== '')
    .map(
      (value) => JSON.parse(Buffer.from(value, 'hex').toString()) as { kind: string; note: object; operation: string },
    );
  const record = records.find(({ kind }) => kind === 'key');
  if (record === undefined) throw new Error('hsm2 has no key record');
  // The process that made the key ended between its journal entry, for hsm1, and the removal of its intent on hsm2.
  const { operation, note } = record;
  const change = { operation, what: 'create', notes: [note], changes: [], former: [], alone: true, writer: 'nobody' };
  const late = { expires: Date.now() + 60_000, time: Date.now() * 1024 };
  const journal = { ...change, kind: 'journal', missed: [one.serial], ...late };
  const others = ['first', 'second'];
  await provision(one, {
    objects: [
      recordOf('done d', { kind: 'done', id: 'd', serial: one.serial, deeds: [operation, ...others] }),
    ] as never,
  });
  await provision(two, {
    objects: [
      recordOf(`intent ${operation}`, { ...change, kind: 'intent', missed: [], ...late }),
      recordOf(`journal ${operation}`, journal),
    ] as never,
  });
  // A find reads the records, and entries without an intent are removed: the second one after all that stood before.
  for (const other of others) {
    await provision(two, { objects: [recordOf(`journal ${other}`, { ...journal, operation: other })] as never });
    const isGone = async (): Promise<boolean> => {
      await token.find({ label: 'nothing' });
      return !(await cluster.readOwn('hsm2')).includes(`pkcs11-ha:journal ${other}`);
    };
    await until(isGone, () => `the ${other} entry is removed`);
  }
  await token.close();
  expect(await cluster.readOwn('hsm2')).toContain(`pkcs11-ha:journal ${operation}`);
  await provision(two, { destroy: [`pkcs11-ha:intent ${operation}`] });
  await provision(two, {
    objects: [recordOf(`intent ${operation}`, { ...change, kind: 'intent', missed: [], time: 1, expires: 0 })] as never,
  });
  const next = await cluster.open();
  await untilState(next, 'hsm1', 'active');
  await untilState(next, 'hsm2', 'active');
  await cluster.untilTidy();
  expect((await next.find()).map(({ handle }) => handle)).toEqual([key.handle]);
  for (const name of ['hsm1', 'hsm2']) expect((await cluster.read(name)).map(({ label }) => label)).toEqual(['K']);
});
