import { closeSync, constants, openSync, readdirSync, readFileSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { GroupConfigInput } from '../../../src/index.js';
import { Cluster, pidOf, untilState } from '../../support/cluster.js';
import { isThere, startService } from '../../support/process.js';
import { within } from '../../support/waiting.js';

const aes = { token: true, valueLen: 32, encrypt: true, sensitive: true, extractable: false };
/** Policy with which no host that a test has stopped is taken for hung: only its claim ends. */
const policy = { hangAfter: 30_000, writeHangAfter: 30_000, deadline: 60_000 } as const;

let cluster: Cluster;
let configuration: GroupConfigInput;
beforeEach(async () => {
  cluster = await Cluster.form('takeover');
  configuration = { ...cluster.configuration(policy), locks: join(cluster.folder.path, 'locks') };
});
afterEach(() => cluster.close());

/** Makes keys that hsm2 misses, and closes the group. */
async function missKeys(labels: readonly string[]): Promise<void> {
  const token = await cluster.open(configuration);
  cluster.fault('hsm2', 'C_Initialize return=0x30');
  process.kill(pidOf(token, 'hsm2'), 'SIGKILL');
  await untilState(token, 'hsm2', 'down');
  for (const label of labels) await token.generateKey('AES_KEY_GEN', { ...aes, label });
  await token.close();
}

/** Waits until a host begins a write on hsm2; returns its process id. */
async function untilWriting(): Promise<number> {
  await cluster.untilMet('hsm2', /C_UnwrapKey/u);
  return Number(
    cluster
      .met('hsm2')
      .find((line) => line.includes('C_UnwrapKey'))
      ?.split(' ')[0],
  );
}

/** Shortens the time for which hosts are waited for after the expiry of a claim: to nothing. */
function endWorkAtExpiry(): void {
  const claims = join(configuration.locks ?? '', 'claims');
  const files = readdirSync(claims, { recursive: true, encoding: 'utf8' }).filter((name) => /\/\d+$/u.test(name));
  for (const file of files) {
    const descriptor = openSync(join(claims, file), constants.O_RDWR);
    const expiry = Buffer.alloc(8);
    readSync(descriptor, expiry, 0, expiry.length, 0);
    writeSync(descriptor, expiry, 0, expiry.length, expiry.length);
    closeSync(descriptor);
  }
}

/** Signals processes, also those that have ended. */
function signal(pids: readonly number[], name: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, name);
    } catch {
      // The process has ended.
    }
  }
}

function childrenOf(pid: number): readonly number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').map(Number);
}

/** Expects every key once on each member, and the same keys on both. */
async function expectOnce(labels: readonly string[]): Promise<void> {
  await cluster.untilTidy();
  const [one, other] = [await cluster.read('hsm1'), await cluster.read('hsm2')];
  expect(other.map(({ label }) => label).sort()).toEqual([...labels].sort());
  expect(other).toEqual(one);
}

describe('a program that brings a member up to date', () => {
  const labels = Array.from({ length: 4 }, (_, index) => `key ${index}`);

  test.each([
    ['is stopped', false],
    ['is stopped, with its hosts', true],
  ])('[Rule 21] and %s is passed over; when it goes on, nothing is doubled', async (_, withHosts) => {
    await missKeys(labels);
    cluster.fault('hsm2', 'C_UnwrapKey delay=150');
    const program = startService('come back', configuration);
    await program.told;
    const pid = program.child.pid ?? 0;
    let stopped: readonly number[] = [pid];
    try {
      program.child.stdin?.write('go\n');
      await untilWriting();
      // Stops the program when a host has just missed the next key: the program would make that key next.
      cluster.fault('hsm2', 'C_FindObjectsFinal hang');
      await cluster.untilMet('hsm2', /C_FindObjectsFinal/u);
      if (withHosts) stopped = [pid, ...childrenOf(pid)];
      signal(stopped, 'SIGSTOP');
      if (withHosts) endWorkAtExpiry();
      cluster.fault('hsm2');
      expect((await cluster.read('hsm2')).length).toBeLessThan(labels.length);
      const token = await cluster.open(configuration);
      await untilState(token, 'hsm2', 'active');
      expect(program.child.exitCode).toBeNull();
      signal(stopped, 'SIGCONT');
      expect(await within(program.ended, () => 'the program that was stopped gets the member')).toMatchObject({
        code: 0,
      });
      await expectOnce(labels);
    } finally {
      signal([...stopped, pid], 'SIGKILL');
      await program.ended;
    }
  });

  test('[Rule 21] and is killed while its host writes is followed when the host has ended: the key is there once', async () => {
    await missKeys(['missed']);
    cluster.fault('hsm2', 'C_UnwrapKey delay=1500');
    const program = startService('come back', configuration);
    await program.told;
    program.child.stdin?.write('go\n');
    const host = await untilWriting();
    program.child.kill('SIGKILL');
    await program.ended;
    expect(isThere(host)).toBe(true);
    const token = await cluster.open(configuration);
    await untilState(token, 'hsm2', 'active');
    expect(isThere(host)).toBe(false);
    await expectOnce(['missed']);
  });
});
