import {
  closeSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { addon } from '../../src/runtime/hosts/addon.js';
import { ck } from '../../src/spec/constants.js';
import { type Job, step } from '../../src/spec/job.js';
import { BareHost } from '../support/bare-host.js';
import { faultyModule } from '../support/faulty/build.js';
import { makeFolder, softhsmModule } from '../support/softhsm.js';
import { until } from '../support/waiting.js';

/** Byte of a claim's file that hosts lock. */
const HOST_BYTE = 1;
const HOUR = 3_600_000;
const ok = ck('CKR_OK');
const failed = ck('CKR_FUNCTION_FAILED');

const folder = makeFolder('claims');
const descriptors: number[] = [];
const hosts: BareHost[] = [];
let path: string;
let file: number;
let files = 0;

/** Opens a file once more, with an open file description of its own. */
const open = (name: string, flags = 'r+'): number => {
  const descriptor = openSync(name, flags);
  descriptors.push(descriptor);
  return descriptor;
};
const close = (descriptor: number): void => {
  descriptors.splice(descriptors.indexOf(descriptor), 1);
  closeSync(descriptor);
};
const start = (env?: Readonly<Record<string, string>>): BareHost => {
  const host = new BareHost(env);
  hosts.push(host);
  return host;
};

beforeEach(() => {
  files += 1;
  path = join(folder.path, `claim${files}`);
  writeFileSync(path, Buffer.alloc(16));
  file = open(path);
});
afterEach(async () => {
  for (const host of hosts.splice(0)) {
    host.channel.close();
    await host.ended;
  }
  for (const descriptor of descriptors.splice(0)) closeSync(descriptor);
});
afterAll(() => folder.remove());

describe('a claim of a host', () => {
  const hold = (host: BareHost, name: string = path): number | undefined =>
    host.call({ steps: [step('X_HoldClaim', name)], sessionless: true }).results.at(-1)?.code;
  const drop = (host: BareHost, name: string = path): number | undefined =>
    host.call({ steps: [step('X_DropClaim', name)], sessionless: true }).results.at(-1)?.code;
  const isHeld = (): boolean => addon.isByteLocked(file, HOST_BYTE);

  /** Writes the time at which the claim expires (ms of CLOCK_BOOTTIME). */
  const expireAt = (time: number): void => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(Math.round(time * 1e6)));
    writeSync(file, bytes, 0, bytes.length, 0);
  };
  const untilDropped = (): Promise<void> =>
    until(
      () => !isHeld(),
      () => 'the host gives up the claim',
    );

  /** Returns the number of times that a thread of the host has gone to sleep. */
  const sleepsOf = ({ child }: BareHost, thread: string): number => {
    const status = readFileSync(`/proc/${child.pid}/task/${thread}/status`, 'utf8');
    return Number(/^voluntary_ctxt_switches:\s+(\d+)/mu.exec(status)?.[1]);
  };
  /** Returns the number of times that the host's watchdog has gone to sleep; 0 before its thread has its name. */
  const roundsOf = (host: BareHost): number => {
    const tasks = `/proc/${host.child.pid}/task`;
    const watchdog = readdirSync(tasks).find((id) => readFileSync(`${tasks}/${id}/comm`, 'utf8') === 'watchdog\n');
    return watchdog === undefined ? 0 : sleepsOf(host, watchdog);
  };
  /** Waits until the host's watchdog has looked at the claims at least twice. */
  const untilChecked = async (host: BareHost): Promise<void> => {
    const before = roundsOf(host);
    await until(
      () => roundsOf(host) > before + 2,
      () => 'the watchdog checks the claims',
    );
  };

  test('is held without a library, once, until it is dropped', async () => {
    const host = start();
    expect(isHeld()).toBe(false);
    expect([hold(host), hold(host), isHeld()]).toEqual([ok, ok, true]);
    expect(addon.lockByte(file, HOST_BYTE, true)).toBe(false);
    expect(drop(host)).toBe(ok);
    // The host's watchdog lets go.
    await until(
      () => !isHeld(),
      () => 'the host lets go of the claim',
    );
    expect(drop(host)).toBe(ok);
    expect([hold(host), isHeld()]).toEqual([ok, true]);
  });

  test('is shared among hosts, and ends with the last of them', async () => {
    const [one, other] = [start(), start()];
    expect([hold(one), hold(other)]).toEqual([ok, ok]);
    drop(one);
    expect(isHeld()).toBe(true);
    other.child.kill('SIGKILL');
    await other.ended;
    // The first host's watchdog may still have to let go.
    await until(
      () => !isHeld(),
      () => 'the hosts let go of the claim',
    );
  });

  test('is refused if its file is missing, a link, or locked by another process', () => {
    const host = start();
    const link = join(folder.path, 'link');
    symlinkSync(path, link);
    expect([hold(host, join(folder.path, 'missing')), hold(host, link)]).toEqual([failed, failed]);
    addon.lockByte(file, HOST_BYTE, true);
    expect(hold(host)).toBe(failed);
    close(file);
    file = open(path);
    expect([hold(host), isHeld()]).toEqual([ok, true]);
  });

  test('is refused if the host holds 256', async () => {
    const host = start();
    const paths = Array.from({ length: 257 }, (_, index) => join(folder.path, `many${index}`));
    for (const name of paths) writeFileSync(name, '');
    const [first = ''] = paths;
    const last = paths.pop() ?? '';
    expect(new Set(paths.map((name) => hold(host, name)))).toEqual(new Set([ok]));
    expect([hold(host, last), hold(host, first)]).toEqual([ck('CKR_HOST_MEMORY'), ok]);
    expect(drop(host, first)).toBe(ok);
    await until(
      () => hold(host, last) === ok,
      () => 'the host has given up a claim',
    );
  });

  test('is dropped after its expiry, and can be held again', async () => {
    const host = start();
    expireAt(addon.bootTime() + HOUR);
    expect(hold(host)).toBe(ok);
    await untilChecked(host);
    expect(isHeld()).toBe(true);
    expireAt(addon.bootTime());
    await untilDropped();
    expireAt(addon.bootTime() + HOUR);
    expect([hold(host), isHeld()]).toEqual([ok, true]);
  });

  test('never expires if its file says so or is too short', async () => {
    const host = start();
    expireAt(0);
    expect(hold(host)).toBe(ok);
    await untilChecked(host);
    expect(isHeld()).toBe(true);
    expireAt(addon.bootTime());
    ftruncateSync(file, 7);
    await untilChecked(host);
    expect(isHeld()).toBe(true);
  });

  test('wakes the watchdog while it is held only', async () => {
    const [idle, dropped, busy] = [start(), start(), start()];
    for (const host of [dropped, busy]) hold(host);
    await untilChecked(dropped);
    drop(dropped);
    // Lets the wait end that the watchdog of the second host began while it held its claim.
    await untilChecked(busy);
    await until(
      () => roundsOf(idle) > 0,
      () => 'the watchdog of the first host sleeps',
    );
    const before = [idle, dropped].map(roundsOf);
    await untilChecked(busy);
    expect([idle, dropped].map(roundsOf)).toEqual(before);
  });

  test.each([
    ['is kept past its expiry until a write in progress has ended', true],
    ['is dropped at its expiry while a call hangs that writes nothing', false],
  ])('%s', async (_, longWrite) => {
    const control = join(folder.path, 'control');
    const host = start({ SOFTHSM2_CONF: '/dev/null', FAULTY_MODULE: softhsmModule(), FAULTY_CONTROL: control });
    host.call({ steps: [step('X_Load', faultyModule, '')], sessionless: true });
    expect(hold(host)).toBe(ok);
    writeFileSync(control, 'C_GetSlotList hang\n');
    // A job that has begun is not cut between its steps: what it has done may not be undone.
    const list = step('C_GetSlotList', true);
    const job: Job = { steps: [list, list], sessionless: true, longWrite };
    const id = host.send(job);
    await until(
      () => host.channel.lanes().length === 1,
      () => 'the job has begun',
    );
    expireAt(addon.bootTime());
    if (longWrite) {
      await untilChecked(host);
      expect(isHeld()).toBe(true);
      rmSync(control);
    }
    await untilDropped();
    rmSync(control, { force: true });
    expect(host.receive()).toMatchObject({ id, status: 'done', results: [{ code: ok }, { code: ok }] });
  });

  test('lasts until a host that is told to leave has finished its write', async () => {
    const control = join(folder.path, 'control');
    const host = start({ SOFTHSM2_CONF: '/dev/null', FAULTY_MODULE: softhsmModule(), FAULTY_CONTROL: control });
    host.call({ steps: [step('X_Load', faultyModule, '')], sessionless: true });
    expect(hold(host)).toBe(ok);
    writeFileSync(control, 'C_GetSlotList hang\n');
    host.send({ steps: [step('C_GetSlotList', true)], sessionless: true, longWrite: true });
    await until(
      () => host.channel.lanes().length === 1,
      () => 'the write has begun',
    );
    const main = String(host.child.pid);
    const before = sleepsOf(host, main);
    host.child.kill('SIGUSR2');
    await until(
      () => sleepsOf(host, main) > before + 1,
      () => 'the host waits for its write',
    );
    expect(isHeld()).toBe(true);
    rmSync(control);
    await host.ended;
    expect(isHeld()).toBe(false);
  });
});
