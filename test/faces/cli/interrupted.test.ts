import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Ended, run, Terminal } from '../../support/cli.js';
import { provision, readToken } from '../../support/softhsm.js';
import { until } from '../../support/waiting.js';
import { json, Workbench } from '../../support/workbench.js';

const bench = new Workbench('cli-interrupted');
const { hsm, controlOf, configure, tokenOptions } = bench;
const labels = ['one', 'two', 'three', 'four', 'five'];
let path: string;
const at = async (...args: string[]): Promise<Ended> => await run([...args, '--config', path]);

beforeAll(async () => {
  await bench.make();
  path = configure('interrupted', [0, 1]);
  expect((await at('group', 'create', path)).code).toBe(0);
  for (const label of labels) expect((await at('key', 'generate', 'aes-128', label)).code).toBe(0);
});
afterAll(() => bench.folder.remove());

/** Runs a command in a terminal, and types Ctrl-C when it calls a token's function, made slow, for the second time. */
async function interrupt(index: number, call: string, ...args: string[]): Promise<Ended> {
  rmSync(bench.met, { force: true });
  writeFileSync(controlOf(index), `${call} delay=100\n`);
  const terminal = new Terminal([...args, '--yes', '--config', path]);
  const count = (): number => (existsSync(bench.met) ? readFileSync(bench.met, 'utf8').split(call).length - 1 : 0);
  let hasEnded = false;
  void terminal.ended.then(() => {
    hasEnded = true;
  });
  await until(
    () => count() >= 2 || hasEnded,
    () => `${call} is called twice`,
  );
  terminal.type('\u0003');
  const code = await terminal.ended;
  writeFileSync(controlOf(index), '');
  expect(terminal.text).not.toMatch(/ {4}at /u);
  return { code, stdout: terminal.text, stderr: '' };
}

const interrupted = { code: 130, stdout: expect.stringMatching(/pkcs11-ha: interrupted; /u) };

const labelsOn = async (index: number): Promise<string[]> => {
  const objects = await readToken(hsm(index));
  return objects
    .map(({ label }) => label)
    .filter((label) => !label.startsWith('pkcs11-ha'))
    .sort();
};

/** Expects that the group is well and agrees with the file. */
async function expectWhole(members: number): Promise<void> {
  const status = await at('status', '--json');
  expect([status.code, json(status)]).toMatchObject([0, { state: 'good', objects: labels.length, unconfigured: [] }]);
  expect(json(status).members).toHaveLength(members);
}

test('synchronize, interrupted: repaired objects stay, and the same command repairs the rest', async () => {
  await provision(hsm(1), { destroy: labels });
  expect(await interrupt(1, 'C_UnwrapKey', 'synchronize')).toMatchObject(interrupted);
  expect((await at('synchronize')).code).toBe(0);
  await expectWhole(2);
  expect(await labelsOn(1)).toEqual([...labels].sort());
});

test('member add, interrupted anywhere: the same command completes it', async () => {
  expect(await interrupt(2, 'C_UnwrapKey', 'member', 'add', 'hsm3', ...tokenOptions(2))).toMatchObject(interrupted);
  const isConfigured = readFileSync(path, 'utf8').includes('hsm3');
  const again = await at('member', 'add', 'hsm3', ...(isConfigured ? [] : tokenOptions(2)));
  expect([again.code, again.stderr]).toEqual([0, '']);
  await expectWhole(3);
  expect(await labelsOn(2)).toEqual([...labels].sort());
});

test('member remove, interrupted: the same command completes it', async () => {
  expect(await interrupt(2, 'C_DestroyObject', 'member', 'remove', 'hsm3', '--wipe')).toMatchObject(interrupted);
  const again = await at('member', 'remove', 'hsm3', '--wipe', '--yes');
  expect([again.code, again.stderr]).toEqual([0, '']);
  await expectWhole(2);
  expect(await readToken(hsm(2))).toEqual([]);
});

test('backup and restore, interrupted: the old backup stays until the new one is whole, and nothing is restored twice', async () => {
  expect((await at('backup', ...tokenOptions(3))).code).toBe(0);
  expect(await interrupt(3, 'C_CreateObject', 'backup', ...tokenOptions(3))).toMatchObject(interrupted);
  const { objects } = json(await at('objects', '--json'));
  for (const { handle } of objects) expect((await at('key', 'destroy', String(handle), '--yes')).code).toBe(0);
  expect(await interrupt(0, 'C_UnwrapKey', 'restore', ...tokenOptions(3))).toMatchObject(interrupted);
  const again = await at('restore', ...tokenOptions(3), '--json');
  expect([again.code, json(again).failed]).toEqual([0, []]);
  await expectWhole(2);
  const handles = (all: { handle: number }[]): number[] => all.map(({ handle }) => handle).sort();
  expect(handles(json(await at('objects', '--json')).objects)).toEqual(handles(objects));
});

test('group delete and group create, interrupted: both finish, since half a group is no use', async () => {
  expect(await interrupt(0, 'C_DestroyObject', 'group', 'delete')).toMatchObject({ code: 0 });
  expect((await at('group', 'delete', '--yes')).code).toBe(0);
  expect(await interrupt(1, 'C_CreateObject', 'group', 'create', path)).toMatchObject({ code: 0 });
  const again = await at('group', 'create', path, '--existing', 'copy');
  expect([again.code, again.stderr]).toEqual([0, '']);
  expect((await at('status')).code).toBe(0);
});
