import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { afterEach, describe, expect, test } from '@jest/globals';
import { addon, hostExecutable, type NativeChannel } from '../../src/runtime/addon.js';
import { type Job, type JobReply, readReply, step, writeJob } from '../../src/spec/job.js';
import { Writer } from '../../src/spec/wire.js';
import { softhsmModule } from '../support/softhsm.js';

/** A host driven by hand, below everything that would make up for its faults. */
class BareHost {
  readonly channel: NativeChannel = new addon.Channel();
  readonly child: ChildProcess;
  readonly ended: Promise<unknown[]>;
  readonly #received: Buffer[] = [];
  #nextId = 1;

  constructor() {
    this.child = spawn(hostExecutable, [String(process.pid)], {
      stdio: ['ignore', 'ignore', 'inherit', this.channel.hostSocket, this.channel.lanePage],
      env: { ...process.env, SOFTHSM2_CONF: '/dev/null' },
    });
    this.ended = once(this.child, 'exit');
    this.channel.closeHostEnds();
  }

  /** Sends, and takes in what comes meanwhile when the channel is full. */
  sendBytes(bytes: Uint8Array): void {
    while (this.channel.send(bytes, bytes.length) === 1) {
      if (!addon.waitReadable([this.channel], 10_000, 0)) throw new Error('the host takes nothing');
      this.channel.receive();
    }
  }

  send(job: Job, deadline = Number.POSITIVE_INFINITY): number {
    const writer = new Writer();
    const id = this.#nextId++;
    writeJob(writer, id, deadline, job);
    this.sendBytes(writer.bytes.subarray(0, writer.length));
    return id;
  }

  receive(): JobReply {
    for (;;) {
      this.#received.push(...this.channel.receive());
      const packet = this.#received.shift();
      if (packet !== undefined) return readReply(packet);
      if (this.channel.ended) throw new Error('the host has ended');
      if (!addon.waitReadable([this.channel], 10_000, 0)) throw new Error('the host says nothing');
    }
  }

  call(job: Job, deadline?: number): JobReply {
    this.send(job, deadline);
    return this.receive();
  }
}

let host: BareHost;
const start = (): BareHost => {
  host = new BareHost();
  return host;
};
afterEach(async () => {
  host.channel.close();
  await host.ended;
});

const unloaded = 0x190;

describe('a host', () => {
  test('refuses calls before a library is loaded', () => {
    expect(start().call({ steps: [step('C_GetSlotList', true)], sessionless: true }).results).toMatchObject([
      { code: unloaded },
    ]);
  });

  test('says why a library does not load', () => {
    const reply = start().call({ steps: [step('X_Load', '/nowhere/lib.so', '')], sessionless: true });
    expect(reply.results).toMatchObject([{ call: 'X_Load', value: expect.stringContaining('/nowhere/lib.so') }]);
  });

  test('says why a library that is no PKCS#11 module does not load', () => {
    const reply = start().call({ steps: [step('X_Load', 'libm.so.6', '')], sessionless: true });
    expect(reply.results).toMatchObject([{ value: 'the library has no C_GetFunctionList' }]);
  });

  test('does not begin a job whose deadline has passed', () => {
    expect(start().call({ steps: [step('C_GetSlotList', true)], sessionless: true }, 1).status).toBe('expired');
  });

  test('survives packets that make no sense, and answers those that follow', () => {
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
    // Every prefix of a good packet, and good packets with any one byte changed.
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

  test('keeps no descriptor it does not need, and can leave no core dump', () => {
    const bare = start();
    bare.call({ steps: [step('C_GetSlotList', true)], sessionless: true });
    const { pid } = bare.child;
    try {
      const names = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
      // Standard input, output and error, and the socket.
      expect(names.filter((name) => !name.startsWith('/proc'))).toHaveLength(4);
    } catch (error) {
      // Only who may trace any process sees into one that is not dumpable.
      expect(error).toMatchObject({ code: 'EACCES' });
    }
    expect(readFileSync(`/proc/${pid}/limits`, 'utf8')).toMatch(/Max core file size\s+0\s+0/u);
  });

  test('ends when the channel is closed', async () => {
    const bare = start();
    bare.channel.close();
    expect(await bare.ended).toEqual([0, null]);
  });

  test('is not ended by the signals that end its application', async () => {
    const bare = start();
    bare.call({ steps: [step('C_GetSlotList', true)], sessionless: true });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) bare.child.kill(signal);
    expect(bare.call({ steps: [step('C_GetSlotList', true)], sessionless: true }).status).toBe('done');
  });
});
