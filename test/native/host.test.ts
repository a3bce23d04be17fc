import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, describe, expect, test } from '@jest/globals';
import { addon, type NativeSecret } from '../../src/runtime/hosts/addon.js';
import { ck } from '../../src/spec/constants.js';
import { type Job, type JobReply, resultOf, step, writeJob } from '../../src/spec/job.js';
import { encodeMechanism } from '../../src/spec/mechanism.js';
import { encodeTemplate } from '../../src/spec/template.js';
import { Writer } from '../../src/spec/wire.js';
import { attach, BareHost, slotOf } from '../support/bare-host.js';
import { faultyModule } from '../support/faulty/build.js';
import { type Hsm, makeFolder, makeHsm, readToken, softhsmModule } from '../support/softhsm.js';

const hosts: BareHost[] = [];
const start = (env?: Readonly<Record<string, string>>): BareHost => {
  const host = new BareHost(env);
  hosts.push(host);
  return host;
};
afterEach(async () => {
  for (const host of hosts.splice(0)) {
    host.channel.close();
    await host.ended;
  }
});

const unloaded = 0x190;
const ok = ck('CKR_OK');

describe('a host', () => {
  /** Returns the scheduling policy of each thread (0 SCHED_OTHER, 3 SCHED_BATCH): field 41 of proc_pid_stat(5). */
  const policiesOf = (pid: number): readonly string[] =>
    readdirSync(`/proc/${pid}/task`).map(
      (thread) => readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8').split(') ')[1]?.split(' ')[38] ?? '',
    );

  test('[Rule 17] gives way to other processes with all its threads, until it is told otherwise', () => {
    const host = start();
    host.call({ steps: [step('X_Load', softhsmModule(), '')], sessionless: true });
    for (const [gives, policy] of [
      [true, '3'],
      [false, '0'],
    ] as const) {
      expect(host.call({ steps: [step('X_GiveWay', gives)], sessionless: true }).results).toMatchObject([{ code: ok }]);
      expect(new Set(policiesOf(host.child.pid ?? 0))).toEqual(new Set([policy]));
    }
  });

  test('refuses calls before a library is loaded', () => {
    expect(start().call({ steps: [step('C_GetSlotList', true)], sessionless: true }).results).toMatchObject([
      { code: unloaded },
    ]);
  });

  test('reports why a library does not load', () => {
    const reply = start().call({ steps: [step('X_Load', '/nowhere/lib.so', '')], sessionless: true });
    expect(reply.results).toMatchObject([{ call: 'X_Load', value: expect.stringContaining('/nowhere/lib.so') }]);
  });

  test('reports that a library is no PKCS#11 module', () => {
    const reply = start().call({ steps: [step('X_Load', 'libm.so.6', '')], sessionless: true });
    expect(reply.results).toMatchObject([{ value: 'the library has no C_GetFunctionList' }]);
  });

  test('[Rule 2] does not begin a job whose deadline has passed', () => {
    expect(start().call({ steps: [step('C_GetSlotList', true)], sessionless: true }, 1).status).toBe('expired');
  });

  test('survives malformed packets, and answers later ones', () => {
    const bare = start();
    expect(bare.call({ steps: [step('X_Load', softhsmModule(), '')], sessionless: true }).results).toHaveLength(1);
    const writer = new Writer();
    const whole: Job = {
      steps: [
        step('C_DigestInit', { type: 0x250, fields: [{ kind: 'pointed', value: randomBytes(20) }] }),
        step('C_Digest', randomBytes(100)),
        step('C_GetAttributeValue', { step: 0 }, [1, 2, 3]),
      ],
      sessionless: true,
    };
    // Makes every prefix of a good packet, and good packets with one byte changed.
    writeJob(writer, 1, Number.POSITIVE_INFINITY, whole);
    const good = Buffer.from(writer.bytes.subarray(0, writer.length));
    const bad = Array.from({ length: good.length - 1 }, (_, length) => good.subarray(0, length + 1));
    for (let at = 24; at < good.length; at += 1) {
      const changed = Buffer.from(good);
      changed[at] = (changed[at] ?? 0) ^ 0xff;
      bad.push(changed);
    }
    for (let i = 0; i < 200; i += 1) bad.push(Buffer.concat([good.subarray(0, 24), randomBytes(1 + (i % 90))]));
    for (const bytes of bad) bare.sendBytes(bytes);
    const id = bare.send({ steps: [step('C_GetSlotList', true)], sessionless: true });
    let reply = bare.receive();
    while (reply.id !== id) reply = bare.receive();
    expect(bare.child.exitCode).toBeNull();
  });

  test('takes and gives payloads larger than a socket message', () => {
    const bare = start();
    const job: Job = { steps: [step('X_Load', '/nowhere/'.padEnd(300_000, 'x'), '')], sessionless: true };
    const reply = bare.call(job);
    expect(reply.status).toBe('done');
    expect(reply.results[0]?.code).not.toBe(0);
  });

  test('keeps no needless descriptor, and leaves no core dump', () => {
    const bare = start();
    bare.call({ steps: [step('C_GetSlotList', true)], sessionless: true });
    const { pid } = bare.child;
    try {
      const names = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
      // Counts standard input, output and error, the socket, and the eventfd that wakes the watchdog.
      expect(names.filter((name) => !name.startsWith('/proc'))).toHaveLength(5);
    } catch (error) {
      // Allows EACCES: only a user who may trace any process can read a process that is not dumpable.
      expect(error).toMatchObject({ code: 'EACCES' });
    }
    expect(readFileSync(`/proc/${pid}/limits`, 'utf8')).toMatch(/Max core file size\s+0\s+0/u);
  });

  test('ends when the channel is closed', async () => {
    const bare = start();
    bare.channel.close();
    expect(await bare.ended).toEqual([0, null]);
  });

  test.each([
    ['its application closes the channel', (bare: BareHost) => bare.channel.close()],
    ['it is told to leave', (bare: BareHost) => bare.child.kill('SIGUSR2')],
  ])('[Rule 9] finishes its write, begins no further job, and ends when %s', async (_, end) => {
    const folder = makeFolder('farewell');
    try {
      const hsm = await makeHsm(folder.path, 'left', {});
      const control = join(folder.path, 'control');
      writeFileSync(control, 'C_CreateObject delay=300\n');
      const bare = start({ ...hsm.env, FAULTY_MODULE: hsm.module, FAULTY_CONTROL: control, FAULTY_LOG: '/dev/null' });
      attach(bare, faultyModule, hsm.label);
      bare.call(login(hsm.pin));
      const data = (label: string): Job => ({
        steps: [step('C_CreateObject', encodeTemplate('data', { class: 'DATA', token: true, label }))],
        longWrite: true,
        exclusive: true,
      });
      bare.send(data('begun'));
      while (bare.channel.lanes().length === 0) await setImmediate();
      bare.send(data('not begun'));
      end(bare);
      await bare.ended;
      expect((await readToken(hsm)).map(({ label }) => label)).toEqual(['begun']);
    } finally {
      folder.remove();
    }
  });

  test('[Rule 14] with lost sessions answers an error until the next login, and never an empty find', async () => {
    const folder = makeFolder('lost');
    try {
      const hsm = await makeHsm(folder.path, 'lost', {});
      const control = join(folder.path, 'control');
      const bare = start({ ...hsm.env, FAULTY_MODULE: hsm.module, FAULTY_CONTROL: control, FAULTY_LOG: '/dev/null' });
      attach(bare, faultyModule, hsm.label);
      bare.call(login(hsm.pin), undefined, 1);
      const made = encodeTemplate('data', { class: 'DATA', token: true, private: true, label: 'private' });
      bare.call({ steps: [step('C_CreateObject', made)] }, undefined, 1);
      const find: Job = { steps: [step('X_Find', [], 10, [])] };
      const attachAgain: Job = { steps: [step('X_Attach', slotOf(bare, hsm.label), 1)], sessionless: true };
      expect(resultOf(bare.call(find, undefined, 1), 0, 'X_Find').length).toBe(1);
      writeFileSync(control, 'C_FindObjectsInit drop times=1\n');
      const lost = ck('CKR_SESSION_HANDLE_INVALID');
      expect([codeOf(bare.call(find, undefined, 1)), codeOf(bare.call(find, undefined, 1))]).toEqual([lost, lost]);
      expect(codeOf(bare.call(attachAgain))).toBe(ok);
      expect(codeOf(bare.call(find, undefined, 1))).toBe(lost);
      expect(codeOf(bare.call(login(hsm.pin), undefined, 2))).toBe(ok);
      expect(resultOf(bare.call(find, undefined, 2), 0, 'X_Find').length).toBe(1);
    } finally {
      folder.remove();
    }
  });

  test.each([
    ['CKR_DEVICE_ERROR', 0x30],
    ['CKR_HOST_MEMORY', 0x02],
    ['a code of the vendor', 0x80000123],
  ])('leaves no operation open after a call that fails with %s and does not end it', async (_, code) => {
    const folder = makeFolder('unended');
    try {
      const hsm = await makeHsm(folder.path, 'unended', {});
      const control = join(folder.path, 'control');
      const bare = start({ ...hsm.env, FAULTY_MODULE: hsm.module, FAULTY_CONTROL: control, FAULTY_LOG: '/dev/null' });
      attach(bare, faultyModule, hsm.label);
      writeFileSync(control, `C_Digest return=${code} times=1\n`);
      const digest: Job = {
        steps: [step('C_DigestInit', encodeMechanism('mechanism', 'SHA256')), step('C_Digest', Buffer.from('data'))],
      };
      expect([codeOf(bare.call(digest)), codeOf(bare.call(digest))]).toEqual([code, ok]);
    } finally {
      folder.remove();
    }
  });

  test('ends at once when it is told to leave while a call hangs that writes nothing', async () => {
    const folder = makeFolder('farewell');
    try {
      const control = join(folder.path, 'control');
      writeFileSync(control, 'C_GetSlotList hang\n');
      const bare = start({ SOFTHSM2_CONF: '/dev/null', FAULTY_MODULE: softhsmModule(), FAULTY_CONTROL: control });
      bare.call({ steps: [step('X_Load', faultyModule, '')], sessionless: true });
      bare.send({ steps: [step('C_GetSlotList', true)], sessionless: true });
      while (bare.channel.lanes().length === 0) await setImmediate();
      bare.child.kill('SIGUSR2');
      expect(await bare.ended).toEqual([0, null]);
    } finally {
      folder.remove();
    }
  });

  test('ends at once when its library calls exit(), without the exit handlers of the library', async () => {
    const folder = makeFolder('exit');
    try {
      const control = join(folder.path, 'control');
      writeFileSync(control, 'C_GetSlotList exit=3\n');
      const bare = start({ SOFTHSM2_CONF: '/dev/null', FAULTY_MODULE: softhsmModule(), FAULTY_CONTROL: control });
      bare.call({ steps: [step('X_Load', faultyModule, '')], sessionless: true });
      bare.send({ steps: [step('C_GetSlotList', true)], sessionless: true });
      expect(await bare.ended).toEqual([3, null]);
    } finally {
      folder.remove();
    }
  });

  test('ignores the signals that end its application', async () => {
    const bare = start();
    bare.call({ steps: [step('C_GetSlotList', true)], sessionless: true });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) bare.child.kill(signal);
    expect(bare.call({ steps: [step('C_GetSlotList', true)], sessionless: true }).status).toBe('done');
  });
});

const secretOf = (text: string): NativeSecret => new addon.Secret(Buffer.from(text));

/** Returns the job of a PIN change, with lengths that may be wrong. */
const change = (oldPin: string, newPin: string, lengths = [oldPin.length, newPin.length]): Job => ({
  steps: [step('C_SetPIN', lengths[0] ?? 0, lengths[1] ?? 0)],
  sessionless: true,
  onLoginSession: true,
  secret: addon.Secret.joined(secretOf(oldPin), secretOf(newPin)),
});

const login = (pin: string): Job => ({
  steps: [step('C_Login', ck('CKU_USER'), pin.length)],
  sessionless: true,
  secret: secretOf(pin),
});

const codeOf = (reply: JobReply): number | undefined => reply.results.at(-1)?.code;

/** Returns true if a process has these bytes in writable memory; undefined if its memory may not be read. */
function remainsIn(pid: number | undefined, bytes: Buffer): boolean | undefined {
  let memory: number;
  try {
    memory = openSync(`/proc/${pid}/mem`, 'r');
  } catch (error) {
    expect(error).toMatchObject({ code: 'EACCES' });
    return undefined;
  }
  try {
    const maps = readFileSync(`/proc/${pid}/maps`, 'utf8').matchAll(/^(\w+)-(\w+) rw/gmu);
    return [...maps].some(([, from, to]) => {
      const start = BigInt(`0x${from}`);
      const size = Number(BigInt(`0x${to}`) - start);
      // Leaves out a sanitizer's own memory, which is terabytes.
      if (size > 2 ** 28) return false;
      const region = Buffer.alloc(size);
      return region.subarray(0, readSync(memory, region, 0, region.length, start)).includes(bytes);
    });
  } finally {
    closeSync(memory);
  }
}

describe('a PIN', () => {
  const pinIncorrect = ck('CKR_PIN_INCORRECT');
  const folder = makeFolder('setpin');
  afterAll(() => folder.remove());

  const makeToken = (): Promise<Hsm> => makeHsm(folder.path, 'pins', { pin: '648219' });

  /** Starts a host with its anchor session on the token, without a login. */
  const attachTo = ({ env, module, label }: Hsm): BareHost => {
    const bare = start(env);
    attach(bare, module, label);
    return bare;
  };

  test.each([
    ['no user is', false],
    ['the user is', true],
  ])('is changed when %s logged in: the new one logs in, the old one does not', async (_, isLoggedIn) => {
    const hsm = await makeToken();
    const bare = attachTo(hsm);
    if (isLoggedIn) expect(codeOf(bare.call(login('648219')))).toBe(ok);
    expect(bare.call(change('648219', '98765432'))).toMatchObject({
      status: 'done',
      results: [{ call: 'C_SetPIN', code: ok }],
    });
    const other = attachTo(hsm);
    expect(codeOf(other.call(login('648219')))).toBe(pinIncorrect);
    expect(codeOf(other.call(login('98765432')))).toBe(ok);
  });

  test('stays if the old PIN is wrong', async () => {
    const hsm = await makeToken();
    expect(codeOf(attachTo(hsm).call(change('111111', '98765432')))).toBe(pinIncorrect);
    expect(codeOf(attachTo(hsm).call(login('648219')))).toBe(ok);
  });

  test('stays if the lengths do not match the secret, or the deadline has passed', async () => {
    const hsm = await makeToken();
    const bare = attachTo(hsm);
    for (const lengths of [
      [6, 7],
      [6, 9],
      [7, 8],
      [0, 0],
      [15, 0],
      [6, 2 ** 32 - 1],
      [2 ** 32 - 1, 9],
      [2 ** 32 - 1, 15],
    ])
      expect(bare.call(change('648219', '98765432', lengths)).status).toBe('malformed');
    expect(bare.call(change('648219', '98765432'), 1).status).toBe('expired');
    expect(codeOf(attachTo(hsm).call(login('648219')))).toBe(ok);
  });

  test('[Rule 13] that is changed ends no login: handles of that login stay valid, and older ones invalid', async () => {
    const bare = attachTo(await makeToken());
    const look: Job = { steps: [step('C_GetSessionInfo')] };
    expect(codeOf(bare.call(login('648219'), undefined, 1))).toBe(ok);
    expect(codeOf(bare.call(change('648219', '98765432'), undefined, 0))).toBe(ok);
    expect(bare.call(look, undefined, 1)).toMatchObject({ status: 'done', results: [{ value: { state: 3 } }] });
    expect(bare.call(look, undefined, 0).status).toBe('expired');
  });

  test("is nowhere in a host's memory after the job was answered, whether it ran or not", async () => {
    const bare = attachTo(await makeToken());
    const pid = bare.child.pid;
    // Searches for bytes that are no secret first, to see that the search finds bytes.
    const text = randomBytes(16).toString('hex');
    bare.call({ steps: [step('X_Load', `/nowhere/${text}`, '')], sessionless: true });
    if (remainsIn(pid, Buffer.from(text)) === undefined) return;
    expect(remainsIn(pid, Buffer.from(text))).toBe(true);
    const jobs: readonly [string, (pin: string, other: string) => JobReply][] = [
      ['done', (pin, other) => bare.call(change(pin, other))],
      ['malformed', (pin, other) => bare.call(change(pin, other, [pin.length, 1]))],
      ['expired', (pin, other) => bare.call(change(pin, other), 1)],
      ['done', (pin) => bare.call(login(pin))],
      ['expired', (pin) => bare.call(login(pin), 1)],
    ];
    for (const [status, call] of jobs) {
      const [pin, other] = [randomBytes(16).toString('hex'), randomBytes(16).toString('hex')] as const;
      expect(call(pin, other).status).toBe(status);
      for (const sent of [pin, other]) expect([status, remainsIn(pid, Buffer.from(sent))]).toEqual([status, false]);
    }
  });
});
