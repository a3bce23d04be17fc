import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { PinEvent, VirtualToken } from '../../../src/index.js';
import { Cluster, pidOf, quickPolicy, stateOf, untilState } from '../../support/cluster.js';
import { startService } from '../../support/process.js';
import { readToken } from '../../support/softhsm.js';

/** All boundaries take minutes: `npm test` takes a sample, another one each time. */
const isEvery = process.env.EVERY_BOUNDARY !== undefined;

const OLD = '648219';
const NEW = '98765432';
const aes = { token: true, valueLen: 32, encrypt: true, sensitive: true };

let cluster: Cluster;
afterEach(() => cluster.close());

const form = async (count: number): Promise<void> => {
  cluster = await Cluster.form(
    'pin',
    Array.from({ length: count }, () => []),
  );
  usePin(OLD);
};

type Configuration = ReturnType<Cluster['configuration']>;

/** The PIN that the configuration says from now on. */
const usePin = (pin: string): void => writeFileSync(join(cluster.folder.path, 'pin'), `${pin}\n`);
const configuration = (): Configuration => ({
  ...cluster.configuration({ ...quickPolicy, hangAfter: 1000, writeHangAfter: 5000, freshness: 50 }),
  pin: { file: join(cluster.folder.path, 'pin') },
});

/** Whether a PIN is that of a member's token, asked apart from the group. */
const hasPin = async (name: string, pin: string): Promise<boolean> =>
  await readToken({ ...cluster.member(name).hsm, pin }).then(
    () => true,
    (error: unknown) => {
      expect(String(error)).toMatch(/PIN_INCORRECT/u);
      return false;
    },
  );

const logins = (name: string): number => cluster.met(name).filter((line) => line.includes('C_Login trace')).length;
const names = (): string[] => cluster.members.map(({ name }) => name);
const traceLogins = (): void => {
  for (const name of names()) cluster.fault(name, 'C_Login trace');
};

/** The labels of what a change has left on a member's token. */
const leftOn = async (name: string, pin: string): Promise<string[]> => {
  const found = await readToken({ ...cluster.member(name).hsm, pin });
  return found.map(({ label }) => label).filter((label) => label.startsWith('pkcs11-ha:pin'));
};

/**
 * All tokens have the PIN and no other, and nothing of the change is left on them, as soon as those that did not
 * answer for a moment do.
 */
async function expectPin(pin: string, other: string): Promise<void> {
  for (const name of names()) {
    expect([name, await hasPin(name, pin), await hasPin(name, other)]).toEqual([name, true, false]);
    while ((await leftOn(name, pin)).length > 0);
  }
}

const eventsOf = (token: VirtualToken): PinEvent[] => {
  const events: PinEvent[] = [];
  token.on('pin', (event) => events.push(event));
  return events;
};
const untilEvent = async (token: VirtualToken, what: PinEvent['what']): Promise<void> => {
  await new Promise<void>((resolve) => {
    token.on('pin', (event) => event.what === what && resolve());
  });
};

test('all members get the new one, keys stay usable, and the old one opens nothing any more', async () => {
  await form(2);
  const token = await cluster.open(configuration());
  const events = eventsOf(token);
  const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'key' });
  const result = await token.encrypt('AES_ECB', key, Buffer.alloc(16));
  traceLogins();
  expect(await token.changePin(NEW)).toEqual({ changed: ['hsm1', 'hsm2'], pending: [] });
  // One trial on each, which is right.
  expect(names().map(logins)).toEqual([1, 1]);
  await expectPin(NEW, OLD);
  expect(events).toEqual([{ type: 'pin', what: 'changed', members: ['hsm1', 'hsm2'] }]);
  // A host that is new logs in with the new one.
  process.kill(pidOf(token, 'hsm1'), 'SIGKILL');
  await untilState(token, 'hsm1', 'down');
  await untilState(token, 'hsm1', 'active');
  expect(await token.encrypt('AES_ECB', key, Buffer.alloc(16))).toEqual(result);
  await token.close();
  await expect(cluster.open(configuration())).rejects.toMatchObject({ code: 0xa0 });
  usePin(NEW);
  const again = await cluster.open(configuration());
  expect(await again.encrypt('AES_ECB', key, Buffer.alloc(16))).toEqual(result);
});

test('what cannot be is refused before anything is touched, and never named', async () => {
  await form(2);
  const token = await cluster.open(configuration());
  for (const pin of ['', 'x'.repeat(256), OLD, Buffer.from(OLD)]) {
    const failure = await token.changePin(pin).catch((error: unknown) => error);
    expect(failure).toMatchObject({ name: 'InputError', field: 'newPin' });
    expect(String((failure as Error).stack)).not.toMatch(new RegExp(`${OLD}|xxxx`, 'u'));
  }
  await expect(token.changePin({ file: '/nowhere/pin' })).rejects.toThrow('/nowhere/pin cannot be read');
  await expect(token.changePin({} as never)).rejects.toMatchObject({ name: 'InputError' });
  await expectPin(OLD, NEW);
});

test('it can come from a program', async () => {
  await form(2);
  const token = await cluster.open(configuration());
  await token.changePin({ command: ['echo', NEW] });
  await expectPin(NEW, OLD);
});

test.each([1, 2])('when the %d. of two members refuses it, all keep the old one', async (which) => {
  await form(2);
  const token = await cluster.open(configuration());
  const events = eventsOf(token);
  cluster.fault(`hsm${which}`, 'C_SetPIN return=0x30');
  const failure = await token.changePin(NEW).catch((error: unknown) => error);
  expect(failure).toMatchObject({ name: 'TokenError', code: 0x30, method: 'C_SetPIN', member: `hsm${which}` });
  expect(String((failure as Error).stack)).not.toMatch(new RegExp(`${NEW}|${OLD}`, 'u'));
  await expectPin(OLD, NEW);
  expect(events.map(({ what }) => what)).toEqual(['rolled back']);
  cluster.heal();
  await token.changePin(NEW);
  await expectPin(NEW, OLD);
});

test.each(['', ' when=after'])('a host that ends with it%s: all members have the same', async (when) => {
  await form(2);
  const token = await cluster.open(configuration());
  cluster.fault('hsm2', `C_SetPIN exit=9 times=1${when}`);
  const succeeded = await token.changePin(NEW).then(
    () => true,
    () => false,
  );
  cluster.heal();
  expect(succeeded).toBe(when !== '');
  await expectPin(...((succeeded ? [NEW, OLD] : [OLD, NEW]) as [string, string]));
});

test('a caller that leaves in the middle has it taken back', async () => {
  await form(2);
  const token = await cluster.open(configuration());
  const events = eventsOf(token);
  cluster.fault('hsm1', 'C_SetPIN trace', 'C_SetPIN delay=300');
  const leaving = new AbortController();
  const changed = token.changePin(NEW, { signal: leaving.signal });
  await cluster.untilMet('hsm1', /C_SetPIN/u);
  leaving.abort(new Error('enough'));
  await expect(changed).rejects.toThrow('enough');
  if (events.length === 0) await untilEvent(token, 'rolled back');
  await expectPin(OLD, NEW);
});

test('a caller that leaves when it is too late is told that the PIN was changed', async () => {
  await form(2);
  const token = await cluster.open(configuration());
  cluster.fault('hsm2', 'C_SetPIN trace', 'C_SetPIN delay=300');
  const leaving = new AbortController();
  const changed = token.changePin(NEW, { signal: leaving.signal });
  await cluster.untilMet('hsm2', /C_SetPIN/u);
  leaving.abort(new Error('enough'));
  expect(await changed).toEqual({ changed: ['hsm1', 'hsm2'], pending: [] });
  await expectPin(NEW, OLD);
});

test.each([OLD, NEW])('what was interrupted is finished by opening the group with %s', async (pin) => {
  await form(3);
  const service = startService('pin', configuration(), 'pipe');
  await service.told;
  cluster.fault('hsm2', 'C_SetPIN orphan times=1');
  service.child.stdin?.write(`${NEW}\n`);
  await service.ended;
  expect(await Promise.all(names().map((name) => hasPin(name, NEW)))).toEqual([true, false, false]);
  usePin(pin);
  traceLogins();
  const token = await cluster.open(configuration());
  const events = eventsOf(token);
  const finished = untilEvent(token, 'finished');
  if (!(await hasPin('hsm3', NEW))) await finished;
  // The login, one that may be refused before it, and the trial of what was changed.
  for (const name of names()) expect(logins(name)).toBeLessThanOrEqual(3);
  expect(events.map(({ what }) => what)).not.toContain('rolled back');
  await expectPin(NEW, OLD);
});

test('a member that is away keeps it from being changed; with pending it gets it when it returns', async () => {
  await form(3);
  const token = await cluster.open(configuration());
  const other = await cluster.open(configuration());
  const events = eventsOf(token);
  cluster.fault('hsm2', 'C_Initialize return=0x30');
  for (const each of [token, other]) {
    process.kill(pidOf(each, 'hsm2'), 'SIGKILL');
    await untilState(each, 'hsm2', 'down');
  }
  await expect(token.changePin(NEW)).rejects.toMatchObject({ code: 0x32, message: expect.stringContaining('hsm2') });
  expect(await hasPin('hsm1', OLD)).toBe(true);
  expect(await token.changePin(NEW, { pending: true })).toEqual({ changed: ['hsm1', 'hsm3'], pending: ['hsm2'] });
  expect(await Promise.all(names().map((name) => hasPin(name, OLD)))).toEqual([false, true, false]);
  expect(events.map(({ what }) => what)).toEqual(['changed', 'pending']);
  await expect(token.changePin('third one', { pending: true })).rejects.toMatchObject({ code: 0x1b });
  // The other process has read of it, and goes on when its hosts are new, whatever its configuration says.
  await other.find();
  process.kill(pidOf(other, 'hsm1'), 'SIGKILL');
  await untilState(other, 'hsm1', 'down');
  await untilState(other, 'hsm1', 'active');
  const finished = Promise.race([untilEvent(token, 'finished'), untilEvent(other, 'finished')]);
  cluster.heal();
  await finished;
  await untilState(token, 'hsm2', 'active');
  await expectPin(NEW, OLD);
});

test('a member that is away is met by another process, whose configuration has the new one', async () => {
  await form(2);
  const token = await cluster.open(configuration());
  cluster.fault('hsm1', 'C_Initialize return=0x30');
  process.kill(pidOf(token, 'hsm1'), 'SIGKILL');
  await untilState(token, 'hsm1', 'down');
  await token.changePin(NEW, { pending: true });
  await token.close();
  cluster.heal();
  usePin(NEW);
  traceLogins();
  const again = await cluster.open(configuration());
  if (!(await hasPin('hsm1', NEW))) await untilEvent(again, 'finished');
  await untilState(again, 'hsm1', 'active');
  // One that may be refused, one with the old PIN, and the trial of the new one.
  expect(logins('hsm1')).toBeLessThanOrEqual(3);
  await expectPin(NEW, OLD);
});

test('another process that is open takes the new one from its source when its host is new', async () => {
  await form(2);
  const token = await cluster.open(configuration());
  const other = await cluster.open(configuration());
  await token.changePin(NEW);
  usePin(NEW);
  traceLogins();
  for (const name of names()) {
    process.kill(pidOf(other, name), 'SIGKILL');
    await untilState(other, name, 'down');
    await untilState(other, name, 'active');
    expect(logins(name)).toBeLessThanOrEqual(2);
  }
  expect(stateOf(other.status(), 'hsm1')).toBe('active');
});

describe.each(['hsm1', 'hsm2'])('the application ends at a call of %s', (where) => {
  // So many of them there are at most; a sample of them is taken.
  const calls = ['C_SetPIN', 'C_CreateObject', 'C_CopyObject', 'C_DestroyObject', 'C_Login'];
  const boundaries = calls.flatMap((call) =>
    [0, 1, 2].flatMap((skip) => ['', ' when=after'].map((when) => ({ call, skip, when }))),
  );
  const chosen = isEvery ? boundaries : [...boundaries].sort(() => Math.random() - 0.5).slice(0, 1);
  test.each(chosen.flatMap((boundary) => [OLD, NEW].map((first) => ({ ...boundary, first }))))(
    '($call, $skip$when): opened again with $first, it can be changed on all',
    async ({ call, skip, when, first }) => {
      await form(2);
      const service = startService('pin', configuration(), 'pipe');
      await service.told;
      cluster.fault(where, `${call} orphan times=1 skip=${skip}${when}`);
      service.child.stdin?.write(`${NEW}\n`);
      const { signal } = await service.ended;
      if (skip === 0) expect(signal).toBe('SIGKILL');
      const before = await Promise.all(names().map((name) => hasPin(name, NEW)));
      usePin(first);
      traceLogins();
      const opened = await cluster.open(configuration()).catch((error: unknown) => error as Error);
      let token: VirtualToken;
      if (opened instanceof Error) {
        // Only where no token has it any more, or none has it yet, and then each has refused it once at most.
        expect(opened).toMatchObject({ code: 0xa0 });
        expect(before).toEqual(names().map(() => first !== NEW));
        for (const name of names()) expect(logins(name)).toBeLessThanOrEqual(1);
        usePin(first === NEW ? OLD : NEW);
        token = await cluster.open(configuration());
      } else token = opened;
      await Promise.all(names().map((each) => untilState(token, each, 'active')));
      await token.changePin(NEW).catch((error: unknown) => expect(error).toMatchObject({ name: 'InputError' }));
      await expectPin(NEW, OLD);
    },
  );
});
