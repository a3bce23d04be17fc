import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { run, Terminal } from '../../support/cli.js';
import { makeHsm, readToken } from '../../support/softhsm.js';
import { until } from '../../support/waiting.js';
import { json, Workbench } from '../../support/workbench.js';

const bench = new Workbench('cli-terminal');
const { folder, hsm, controlOf, configure, tokenOptions } = bench;
beforeAll(bench.make);
afterAll(() => bench.folder.remove());

test('group create asks its questions, has the PIN typed twice and never shows it', async () => {
  const place = join(folder.path, 'asked');
  mkdirSync(place);
  const pair = await makeHsm(folder.path, 'asked', { pin: '13572468' });
  const terminal = new Terminal(['group', 'create'], { cwd: place, env: { ...pair.env, PKCS11_HA_CONFIG: '' } });
  await terminal.until(/Label of the group/u);
  terminal.type('asked\r');
  await terminal.until(/PKCS#11 library/u);
  terminal.type(`${pair.module}\r`);
  await terminal.until(/Token[\s\S]*asked \(serial/u);
  terminal.type('\r');
  await terminal.until(/Name of this member/u);
  terminal.type('\r');
  await terminal.until(/PIN of the tokens/u);
  terminal.type('13572468\r');
  await terminal.until(/once more/u);
  terminal.type('13572468\r');
  await terminal.until(/was created/u);
  expect(await terminal.ended).toBe(0);
  expect(terminal.text).not.toContain('13572468');
  expect(readFileSync(join(place, 'pkcs11-ha.yaml'), 'utf8')).toContain(pair.serial);
  expect(readFileSync(join(place, 'pkcs11-ha.pin'), 'utf8')).toBe('13572468\n');
  expect(statSync(join(place, 'pkcs11-ha.pin')).mode & 0o777).toBe(0o600);
  const status = await run(['status', '--json'], { cwd: place, env: { ...pair.env, PKCS11_HA_CONFIG: '' } });
  expect([status.code, json(status).label]).toEqual([0, 'asked']);
});

test('a group that cannot be formed leaves neither file behind', async () => {
  const place = join(folder.path, 'refused');
  mkdirSync(place);
  const terminal = new Terminal(['group', 'create', '--label', 'x', '--member', 'one', ...tokenOptions(2)], {
    cwd: place,
    env: { PKCS11_HA_CONFIG: '' },
  });
  await terminal.until(/PIN of the tokens/u);
  terminal.type('not it\r');
  await terminal.until(/once more/u);
  terminal.type('not it\r');
  await terminal.until(/CKR_PIN_INCORRECT/u);
  expect(await terminal.ended).toBe(1);
  expect(readdirSync(place)).toEqual([]);
});

test('Ctrl-C ends a command, and nothing of its change is left', async () => {
  const path = configure('interrupted', [0, 1], '  writeHangAfter: 3s\n');
  await run(['group', 'delete', '--yes', '--config', path]);
  expect((await run(['group', 'create', path])).code).toBe(0);
  for (const index of [0, 1]) writeFileSync(controlOf(index), 'C_GenerateKeyPair hang\n');
  const terminal = new Terminal(['key', 'generate', 'ec-p256', 'begun', '--config', path]);
  const log = bench.met;
  const isMet = (): boolean => existsSync(log) && readFileSync(log, 'utf8').includes('C_GenerateKeyPair');
  await until(isMet, () => 'C_GenerateKeyPair is called');
  // The calls hang until the hosts are killed: the key must not be there before the tool has seen Ctrl-C.
  terminal.type('\u0003');
  expect(await terminal.ended).toBe(130);
  for (const index of [0, 1]) writeFileSync(controlOf(index), '');
  expect(terminal.text).toMatch(/pkcs11-ha: interrupted; /u);
  const listed = await run(['objects', '--label', 'begun', '--json', '--config', path]);
  expect([listed.code, json(listed).objects]).toEqual([0, []]);
  for (const index of [0, 1])
    expect((await readToken(hsm(index))).filter(({ label }) => label === 'begun')).toEqual([]);
});

test('Ctrl-C in the middle of a PIN change: the file gets the PIN that the tokens have', async () => {
  const path = configure('pin', [0, 1]);
  const next = join(folder.path, 'next');
  writeFileSync(next, '99999999\n');
  await run(['group', 'delete', '--yes', '--config', path]);
  expect((await run(['group', 'create', path])).code).toBe(0);
  // Interrupts while the last member is changing its PIN.
  writeFileSync(controlOf(1), 'C_SetPIN delay=1000 times=1\n');
  const log = bench.met;
  const terminal = new Terminal(['pin', 'change', '--new-pin-file', next, '--config', path]);
  const isMet = (): boolean => existsSync(log) && readFileSync(log, 'utf8').includes('C_SetPIN');
  await until(isMet, () => 'C_SetPIN is called');
  terminal.type('\u0003');
  await terminal.ended;
  writeFileSync(controlOf(1), '');
  expect(readFileSync(`${path}.pin`, 'utf8')).toBe('99999999\n');
  expect((await run(['status', '--config', path])).code).toBe(0);
  writeFileSync(next, `${hsm(0).pin}\n`);
  expect((await run(['pin', 'change', '--new-pin-file', next, '--config', path])).code).toBe(0);
});

/** Returns the hosts among a process's descendants, in the order of their starts. */
function hostsUnder(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  return children.flatMap((child) =>
    readFileSync(`/proc/${child}/comm`, 'utf8').startsWith('pkcs11-ha-host') ? [child] : hostsUnder(child),
  );
}

test('a PIN that the file does not name is asked for once, and is not in the environment of a host', async () => {
  const path = configure('asking', [0, 1]);
  await run(['group', 'delete', '--yes', '--config', path]);
  writeFileSync(path, readFileSync(path, 'utf8').replace(/^pin: .*\n/mu, ''));
  const create = new Terminal(['group', 'create', path]);
  await create.until(/PIN of asking/u);
  create.type(`${hsm(0).pin}\r`);
  expect(await create.ended).toBe(0);
  const watch = new Terminal(['status', '--watch', '--config', path]);
  await watch.until(/PIN of asking/u);
  watch.type(`${hsm(0).pin}\r`);
  await watch.until(/good, 0 objects/u);
  const hosts = hostsUnder(watch.pid);
  expect(hosts.length).toBeGreaterThanOrEqual(2);
  for (const host of hosts) expect(readFileSync(`/proc/${host}/environ`, 'latin1')).not.toContain(hsm(0).pin);
  watch.type('\u0003');
  await watch.ended;
  const verify = new Terminal(['verify', '--config', path]);
  await verify.until(/PIN of asking/u);
  verify.type(`${hsm(0).pin}\r`);
  await verify.until(/No problems/u);
  expect(await verify.ended).toBe(0);
  expect(verify.text).not.toContain(hsm(0).pin);
});

test('status --watch shows how a member is lost and comes back, and Ctrl-C ends it', async () => {
  const path = configure('watched', [0, 1]);
  await run(['group', 'delete', '--yes', '--config', path]);
  expect((await run(['group', 'create', path])).code).toBe(0);
  const terminal = new Terminal(['status', '--watch', '--interval', '1', '--config', path]);
  await terminal.until(/good, \d+ objects[\s\S]*hsm2 +active/u);
  const [, pid] = hostsUnder(terminal.pid);
  if (pid === undefined) throw new Error('no second host');
  writeFileSync(controlOf(1), 'C_Initialize return=0x30\n');
  process.kill(pid, 'SIGKILL');
  await terminal.until(/degraded, \d+ objects[\s\S]*hsm2 +down .*CKR_DEVICE_ERROR/u);
  const before = terminal.text.length;
  writeFileSync(controlOf(1), '');
  await terminal.until(new RegExp(`^[\\s\\S]{${before}}[\\s\\S]*good, \\d+ objects[\\s\\S]*hsm2 +active`, 'u'));
  terminal.type('\u0003');
  expect(await terminal.ended).toBe(0);
});
