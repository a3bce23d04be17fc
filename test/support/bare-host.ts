import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { addon, hostExecutable, type NativeChannel, type NativeSecret } from '../../src/runtime/hosts/addon.js';
import { receiveAll } from '../../src/runtime/hosts/inbox.js';
import { type Job, type JobReply, resultOf, step, writeJob } from '../../src/spec/job.js';
import { Writer } from '../../src/spec/wire.js';

/** Host process driven by hand, below the code that makes up for a host's faults. */
export class BareHost {
  readonly channel: NativeChannel = new addon.Channel();
  readonly child: ChildProcess;
  readonly ended: Promise<unknown[]>;
  readonly #received: JobReply[] = [];
  #nextId = 1;

  constructor(env: Readonly<Record<string, string>> = { SOFTHSM2_CONF: '/dev/null' }) {
    this.child = spawn(hostExecutable, [String(process.pid)], {
      stdio: ['ignore', 'ignore', 'inherit', this.channel.hostSocket, this.channel.page],
      env: { ...process.env, ...env },
    });
    this.ended = once(this.child, 'exit');
    this.channel.closeHostEnds();
  }

  /** Sends a packet; takes in replies while the channel is full. */
  sendBytes(bytes: Uint8Array, secret?: NativeSecret): void {
    while (this.channel.send(bytes, bytes.length, secret) === 1) {
      if (!addon.waitReadable([this.channel], 10_000, 0)) throw new Error('the host takes nothing');
      this.#takeIn();
    }
  }

  /** Sends a job; returns its id. */
  send(job: Job, deadline: number = Number.POSITIVE_INFINITY, epoch: number = 0): number {
    const writer = new Writer();
    const id = this.#nextId++;
    writeJob(writer, id, deadline, job, epoch);
    this.sendBytes(writer.bytes.subarray(0, writer.length), job.secret as NativeSecret | undefined);
    return id;
  }

  /** Returns the next reply; throws if the host has ended or is silent for 10 s. */
  receive(): JobReply {
    for (;;) {
      this.#takeIn();
      const reply = this.#received.shift();
      if (reply !== undefined) return reply;
      if (this.channel.ended) throw new Error('the host has ended');
      if (!addon.waitReadable([this.channel], 10_000, 0)) throw new Error('the host says nothing');
    }
  }

  #takeIn(): void {
    receiveAll(this.channel, (reply) => this.#received.push(reply) > 0);
  }

  /** Sends a job and returns the next reply. */
  call(job: Job, deadline?: number, epoch?: number): JobReply {
    this.send(job, deadline, epoch);
    return this.receive();
  }
}

/** Loads the library and attaches the lanes to a token. */
export function attach(bare: BareHost, module: string, label: string, lanes: number = 1): void {
  bare.call({ steps: [step('X_Load', module, '')], sessionless: true });
  const reply = bare.call({ steps: [step('X_Attach', slotOf(bare, label), lanes)], sessionless: true });
  if (reply.results.at(-1)?.code !== 0) throw new Error('the lanes cannot be attached');
}

/** Returns the slot of the token with a label, or -1. */
export function slotOf(bare: BareHost, label: string): number {
  const slots = resultOf(bare.call({ steps: [step('C_GetSlotList', true)], sessionless: true }), 0, 'C_GetSlotList');
  const slot = slots.find((candidate) => {
    const info = bare.call({ steps: [step('C_GetTokenInfo', candidate)], sessionless: true });
    return resultOf(info, 0, 'C_GetTokenInfo').label === label;
  });
  return slot ?? -1;
}
