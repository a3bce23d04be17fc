import { closeSync, constants, openSync, readdirSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import {
  type ClaimFile,
  ClaimFolder,
  HOLDER_BYTE,
  HOST_BYTE,
  LIFETIME,
} from '../../../src/runtime/coordination/local/claim-file.js';
import { LockFolder } from '../../../src/runtime/coordination/local/lock-folder.js';
import { addon } from '../../../src/runtime/hosts/addon.js';
import { CommandedProgram } from '../../support/commanded.js';
import { type Folder, makeFolder } from '../../support/softhsm.js';
import { until } from '../../support/waiting.js';

/** Time for which hosts are waited for after the expiry of a claim (ms). */
const WORK_LIMIT = 3000;
/** Limit of a wait for a claim (ms): longer than any test takes. */
const LONG = 60_000;
/** Number of claims that each of three processes takes. */
const TURNS = 200;

let folder: Folder;
let path: string;
let claims: ClaimFolder;
let others: ClaimFolder;
/** Time of CLOCK_BOOTTIME in a test (ms). */
let time: number;
const taken: ClaimFile[] = [];
const hosts: number[] = [];
const programs: CommandedProgram<unknown>[] = [];

beforeEach(() => {
  folder = makeFolder('coordination');
  path = join(folder.path, 'locks');
  claims = new ClaimFolder(LockFolder.open(path, 'group'), 'name');
  others = new ClaimFolder(LockFolder.open(path, 'group'), 'name');
  time = addon.bootTime();
  jest.spyOn(addon, 'bootTime').mockImplementation(() => time);
});
afterEach(async () => {
  jest.restoreAllMocks();
  for (const claim of taken.splice(0)) claim.close();
  for (const descriptor of hosts.splice(0)) closeSync(descriptor);
  await Promise.all(programs.splice(0).map((program) => program.kill()));
  folder.remove();
});

/** Takes a claim; undefined if it is held. */
function take(from: ClaimFolder): ClaimFile | undefined {
  const claim = from.take(WORK_LIMIT);
  if (claim !== undefined) taken.push(claim);
  return claim;
}

/** Takes a claim that is free. */
function taking(from: ClaimFolder): ClaimFile {
  const claim = take(from);
  if (claim === undefined) throw new Error('the claim is held');
  return claim;
}

/** Opens a file; the test's end closes it. */
function openAgain(name: string): number {
  const descriptor = openSync(name, constants.O_RDWR);
  hosts.push(descriptor);
  return descriptor;
}

/** Locks a claim's file as a host does; the returned function lets go. */
function lockAsHost(file: string): () => void {
  const descriptor = openAgain(file);
  expect(addon.lockByte(descriptor, HOST_BYTE, false)).toBe(true);
  return () => {
    hosts.splice(hosts.indexOf(descriptor), 1);
    closeSync(descriptor);
  };
}

/** Starts a coordinator in a process of its own. */
async function startProcess(): Promise<CommandedProgram<unknown>> {
  const program = new CommandedProgram('coordinator', ['group', path]);
  programs.push(program);
  await program.ready;
  return program;
}

describe('a claim', () => {
  test('[Rule 21] excludes others, also of its own process, until it is closed', () => {
    const claim = taking(claims);
    expect([take(others), take(claims)]).toEqual([undefined, undefined]);
    expect(others.holder()).toBe(`process ${process.pid}`);
    claim.close();
    expect(others.holder()).toBeUndefined();
    taking(others);
    expect(take(claims)).toBeUndefined();
  });

  test('excludes no claim of another name', () => {
    taking(claims);
    taking(new ClaimFolder(claims.locks, 'other'));
  });

  test('[Rule 21] excludes other processes, which all get their turn', async () => {
    const file = join(folder.path, 'number');
    writeFileSync(file, '0');
    const started = await Promise.all([startProcess(), startProcess(), startProcess()]);
    const fences = await Promise.all(started.map((program) => program.ask('count', 'shared', file, TURNS, LONG)));
    expect(readFileSync(file, 'latin1')).toBe(String(TURNS * started.length));
    expect(new Set(fences.flat()).size).toBe(TURNS * started.length);
    for (const own of fences as number[][]) expect(own).toEqual([...own].sort((a, b) => a - b));
  });

  test('has a fence above all fences before it, also after the folder was emptied', async () => {
    const fences: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      const claim = taking(round % 2 === 0 ? claims : others);
      fences.push(claim.fence);
      claim.close();
    }
    rmSync(join(path, 'claims', 'name'), { recursive: true });
    // Fences of an emptied folder follow the clock.
    await until(
      () => Date.now() > (fences.at(-1) ?? 0),
      () => 'the clock goes on',
    );
    const [first = 0, second = 0, third = 0] = fences;
    expect([second - first, third - second]).toEqual([1, 1]);
    expect(taking(others).fence).toBeGreaterThan(third);
  });

  test('leaves one file, and no temporary ones', () => {
    for (let round = 0; round < 3; round += 1) {
      const claim = taking(claims);
      expect(take(others)).toBeUndefined();
      claim.close();
    }
    const { fence } = taking(claims);
    expect(readdirSync(join(path, 'claims', 'name'))).toEqual([String(fence)]);
  });

  test('[Rule 21] of a process that was killed is free', async () => {
    const program = await startProcess();
    expect(await program.ask('claim', 'name', 0)).toEqual(expect.any(Number));
    expect(others.holder()).toBe(`process ${program.pid}`);
    expect(take(others)).toBeUndefined();
    await program.kill();
    expect(others.holder()).toBeUndefined();
    taking(others);
  });

  test('[Rule 21] that expires is passed over at its expiry, and can no longer be renewed', () => {
    const claim = taking(claims);
    expect(claim.expires).toBe(time + LIFETIME);
    time = claim.expires - 1;
    expect(take(others)).toBeUndefined();
    time = claim.expires;
    expect(claim.renew()).toBe(false);
    const next = taking(others);
    expect(claim.renew()).toBe(false);
    expect(next.fence).toBe(claim.fence + 1);
    // Closing the expired claim ends nothing of the new one.
    claim.close();
    expect(take(claims)).toBeUndefined();
    expect(next.renew()).toBe(true);
  });

  test('[Rule 21] that is renewed lasts from the renewal on', () => {
    const claim = taking(claims);
    time = claim.expires - 1;
    expect(claim.renew()).toBe(true);
    time += LIFETIME - 1;
    expect(take(others)).toBeUndefined();
    time += 1;
    taking(others);
  });

  test('[Rule 21] is not renewed if the renewal was completed after the expiry', () => {
    const claim = taking(claims);
    const [inTime, late] = [claim.expires - 1, claim.expires];
    jest.spyOn(addon, 'bootTime').mockReturnValueOnce(inTime).mockReturnValue(late);
    expect(claim.renew()).toBe(false);
    expect(claim.expires).toBe(late);
  });

  test('[Rule 21] is not renewed if another process has a higher fence', () => {
    const claim = taking(claims);
    closeSync(claims.locks.create(join(path, 'claims', 'name', String(claim.fence + 1))));
    expect(claim.renew()).toBe(false);
  });
});

describe('a claim that hosts hold too', () => {
  test('[Rule 21] lasts until they let go, after its holder has closed it', () => {
    const claim = taking(claims);
    const letGo = lockAsHost(claim.path);
    claim.close();
    expect(take(others)).toBeUndefined();
    letGo();
    taking(others);
  });

  test('[Rule 21] lasts until they let go, after its holder was killed', async () => {
    const program = await startProcess();
    await program.ask('claim', 'name', 0);
    const { pid } = program;
    const [fence] = others.fences();
    const letGo = lockAsHost(join(path, 'claims', 'name', String(fence)));
    await program.kill();
    expect([take(others), others.holder()]).toEqual([undefined, `process ${pid}`]);
    letGo();
    taking(others);
  });

  test('[Rule 21] is passed over when the time of their work is over, be its holder alive or not', () => {
    for (const isAlive of [true, false]) {
      const claim = taking(claims);
      lockAsHost(claim.path);
      if (!isAlive) claim.close();
      const expiry = isAlive ? claim.expires : time;
      time = expiry + WORK_LIMIT - 1;
      expect(take(others)).toBeUndefined();
      time += 1;
      taking(others).close();
    }
  });

  test('is marked as expired when its holder closes it, so that the hosts let go', () => {
    const claim = taking(claims);
    claim.close();
    const descriptor = openAgain(claim.path);
    const bytes = Buffer.alloc(8);
    readSync(descriptor, bytes, 0, bytes.length, 0);
    expect(Number(bytes.readBigUInt64LE()) / 1e6).toBeCloseTo(time, 3);
    expect(addon.isByteLocked(descriptor, HOLDER_BYTE)).toBe(false);
  });
});
