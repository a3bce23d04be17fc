import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { PinEvent, PinReport, VirtualToken } from '../../../src/index.js';
import { Cluster, pidOf, quickPolicy, stateOf, untilState } from '../../support/cluster.js';
import { startService } from '../../support/process.js';
import { readToken } from '../../support/softhsm.js';
import { until, within } from '../../support/waiting.js';

/** True if all boundaries are taken, which takes minutes; `npm test` takes a random sample. */
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

/** Writes the PIN that the configuration names. */
const usePin = (pin: string): void => writeFileSync(join(cluster.folder.path, 'pin'), `${pin}\n`);
const configuration = (): Configuration => ({
  ...cluster.configuration({ ...quickPolicy, hangAfter: 1000, writeHangAfter: 5000, freshness: 50 }),
  pin: { file: join(cluster.folder.path, 'pin') },
});

/** Returns true if a PIN opens a member's token; asks apart from the group. */
const hasPin = async (name: string, pin: string): Promise<boolean> =>
  await readToken({ ...cluster.member(name).hsm, pin }).then(
    () => true,
    (error: unknown) => {
      expect(String(error)).toMatch(/PIN_INCORRECT/u);
      return false;
    },
  );

/** Returns true if a member has the new PIN; the last login is a good one, so that the token has all its tries. */
const hasNewPin = async (name: string): Promise<boolean> => {
  const isNew = await hasPin(name, NEW);
  if (!isNew) await hasPin(name, OLD);
  return isNew;
};

const logins = (name: string): number => cluster.met(name).filter((line) => line.includes('C_Login trace')).length;
const names = (): string[] => cluster.members.map(({ name }) => name);
const traceLogins = (): void => {
  for (const name of names()) cluster.fault(name, 'C_Login trace');
};

/** Reads the labels of PIN notes on a member's token. */
const leftOn = async (name: string, pin: string): Promise<string[]> => {
  const found = await readToken({ ...cluster.member(name).hsm, pin });
  return found.map(({ label }) => label).filter((label) => label.startsWith('pkcs11-ha:pin'));
};

/**
 * Expects that all tokens have the PIN and not the other one. Waits until no PIN note is left, since a member that did
 * not answer for a moment loses its notes later.
 */
async function expectPin(pin: string, other: string): Promise<void> {
  for (const name of names()) {
    expect([name, await hasPin(name, pin), await hasPin(name, other)]).toEqual([name, true, false]);
    let left: readonly string[] = [];
    const isClear = async (): Promise<boolean> => {
      left = await leftOn(name, pin);
      return left.length === 0;
    };
    await until(isClear, () => `${name} has no PIN notes, but: ${left.join(', ')}`);
  }
}

const eventsOf = (token: VirtualToken): PinEvent[] => {
  const events: PinEvent[] = [];
  token.on('pin', (event) => events.push(event));
  return events;
};
/** Waits for an event. Call it before the step that may cause the event, or the event may come unseen. */
const untilEvent = async (token: VirtualToken, what: PinEvent['what']): Promise<void> => {
  const come = new Promise<void>((resolve) => {
    token.on('pin', (event) => event.what === what && resolve());
  });
  const states = (): string => JSON.stringify(token.status().members.map(({ name, state }) => [name, state]));
  await within(come, () => `a pin event '${what}'; members: ${states()}`);
};
/** Configuration with a log, in which the events since the opening stay readable. */
const logged = (): Configuration => ({ ...configuration(), log: { file: join(cluster.folder.path, 'ha.log') } });
/**
 * Waits until the log tells that a change is finished. A question to the token, as by hasPin, would write to the token
 * during the change (SoftHSM writes at each login), and may cost the member a further login.
 */
const untilFinished = async (): Promise<void> => {
  const log = join(cluster.folder.path, 'ha.log');
  const text = (): string => (existsSync(log) ? readFileSync(log, 'utf8') : '');
  await until(
    () => text().includes('"what":"finished"'),
    () => `a pin event 'finished'; events:\n${text()}`,
  );
};

test('all members get the new PIN, keys stay usable, and the old PIN opens no token any more', async () => {
  await form(2);
  const token = await cluster.open(configuration());
  const events = eventsOf(token);
  const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'key' });
  const result = await token.encrypt('AES_ECB', key, Buffer.alloc(16));
  traceLogins();
  expect(await token.changePin(NEW)).toEqual({ changed: ['hsm1', 'hsm2'], pending: [] });
  // Counts one login on each member, the trial of the new PIN.
  expect(names().map(logins)).toEqual([1, 1]);
  await expectPin(NEW, OLD);
  expect(events).toEqual([{ type: 'pin', what: 'changed', members: ['hsm1', 'hsm2'] }]);
  // Replaces a host, which logs in with the new PIN.
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

test('an invalid new PIN is refused before any member is asked, and the error does not contain it', async () => {
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

test('the new PIN can come from a program', async () => {
  await form(2);
  const token = await cluster.open(configuration());
  await token.changePin({ command: ['echo', NEW] });
  await expectPin(NEW, OLD);
});

test('a member that is a suspect for a moment is waited for: the change is not refused', async () => {
  await form(2);
  const token = await cluster.open(configuration());
  const key = await token.generateKey('AES_KEY_GEN', { ...aes, label: 'key' });
  let change: Promise<PinReport> | undefined;
  token.on('member', ({ member, to }) => {
    if (member === 'hsm2' && to === 'suspect') change ??= token.changePin(NEW);
  });
  // Fails a call on hsm2, and delays the probe that is to show that hsm2 is well. The failed call may be one that proves
  // the key, for which nobody is blamed: then again.
  const end = Date.now() + 60_000;
  while (change === undefined && Date.now() < end) {
    cluster.fault('hsm2', 'C_GetSessionInfo delay=500 times=1', 'C_Encrypt return=0x30 times=1');
    for (let i = 0; i < 8 && change === undefined; i += 1) await token.encrypt('AES_ECB', key, Buffer.alloc(16));
  }
  expect(await change).toEqual({ changed: ['hsm1', 'hsm2'], pending: [] });
});

test.each([1, 2])('if member %d of two refuses the new PIN, all keep the old one', async (which) => {
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

test.each(['', ' when=after'])('a host that ends at C_SetPIN%s: all members have the same PIN', async (when) => {
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

test('a call that is aborted before the last member: the change is undone', async () => {
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

test('a call that is aborted at the last member: the PIN is changed, and the caller is told so', async () => {
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

test.each([OLD, NEW])('an interrupted change is finished when the group is opened with PIN %s', async (pin) => {
  await form(3);
  const service = startService('pin', configuration(), 'pipe');
  await service.told;
  cluster.fault('hsm2', 'C_SetPIN orphan times=1');
  service.child.stdin?.write(`${NEW}\n`);
  await service.ended;
  expect(await Promise.all(names().map(hasNewPin))).toEqual([true, false, false]);
  usePin(pin);
  traceLogins();
  const token = await cluster.open(logged());
  const events = eventsOf(token);
  await untilFinished();
  // Allows the login, a refused one before it, and the trial of the changed PIN.
  for (const name of names()) expect(logins(name)).toBeLessThanOrEqual(3);
  expect(events.map(({ what }) => what)).not.toContain('rolled back');
  await expectPin(NEW, OLD);
});

test('a member that is away prevents the change; with pending it gets the new PIN when it returns', async () => {
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
  // Lets the other process read the PIN note, and replaces its host, which logs in although its configuration is old.
  await other.find();
  process.kill(pidOf(other, 'hsm1'), 'SIGKILL');
  await untilState(other, 'hsm1', 'down');
  await untilState(other, 'hsm1', 'active');
  const told = [eventsOf(token), eventsOf(other)];
  cluster.heal();
  await until(
    () => told.flat().some(({ what }) => what === 'finished'),
    () => `a pin event 'finished'; events: ${JSON.stringify(told)}`,
  );
  await untilState(token, 'hsm2', 'active');
  await expectPin(NEW, OLD);
});

test('a returning member gets the new PIN from another process, whose configuration has the new one', async () => {
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
  const again = await cluster.open(logged());
  await untilFinished();
  await untilState(again, 'hsm1', 'active');
  // Allows a refused login, one with the old PIN, and the trial of the new one.
  expect(logins('hsm1')).toBeLessThanOrEqual(3);
  await expectPin(NEW, OLD);
});

test('another open process reads the new PIN from its source when it replaces a host', async () => {
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
  // Lists all boundaries of a PIN change, some more than there are.
  const calls = ['C_SetPIN', 'C_CreateObject', 'C_CopyObject', 'C_DestroyObject', 'C_Login'];
  const boundaries = calls.flatMap((call) =>
    [0, 1, 2].flatMap((skip) => ['', ' when=after'].map((when) => ({ call, skip, when }))),
  );
  const chosen = isEvery ? boundaries : [...boundaries].sort(() => Math.random() - 0.5).slice(0, 1);
  test.each(chosen.flatMap((boundary) => [OLD, NEW].map((first) => ({ ...boundary, first }))))(
    '($call, $skip$when): opened again with PIN $first, the PIN can be changed on all members',
    async ({ call, skip, when, first }) => {
      await form(2);
      const service = startService('pin', configuration(), 'pipe');
      await service.told;
      cluster.fault(where, `${call} orphan times=1 skip=${skip}${when}`);
      service.child.stdin?.write(`${NEW}\n`);
      const { signal } = await service.ended;
      if (skip === 0) expect(signal).toBe('SIGKILL');
      const before = await Promise.all(names().map(hasNewPin));
      usePin(first);
      traceLogins();
      const opened = await cluster.open(configuration()).catch((error: unknown) => error as Error);
      let token: VirtualToken;
      if (opened instanceof Error) {
        // Allows a refused PIN only if no token has it, and at most one try on each token.
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
