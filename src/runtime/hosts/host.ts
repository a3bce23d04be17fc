import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { isMainThread } from 'node:worker_threads';
import type { BegunJob, HostEnd, HostLink, HostListener, HostOptions } from '../../core/base/port.js';
import { type Job, writeJob } from '../../spec/job.js';
import { Writer } from '../../spec/wire.js';
import { bootOffset } from '../scheduling/clock.js';
import { addon, hostExecutable, type NativeChannel, type NativeSecret } from './addon.js';
import { environmentFor } from './environment.js';
import { receiveAll } from './inbox.js';
import { sandboxArguments, sandboxProblem } from './sandbox.js';

const writer = new Writer();
/** Time that a host whose channel has ended gets to exit, before its end is described (ms). */
const END_WITHIN = 5;
/** Signal that tells a host to leave; see native/common/shutdown_signal.h. */
const SHUTDOWN_SIGNAL = 'SIGUSR2';

const signalNames: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.signals).map(([name, value]) => [value, name]),
);

/** Callbacks and settings that a host gets from the process around it. */
interface HostSurroundings {
  /** Environment variables that no host may see, because PINs come from them. */
  readonly hidden: readonly string[];
  /** Path of the group's lock folder. */
  readonly locks: string;
  printed(member: string, text: string): void;
  /** Steps the tasks, after a message has arrived or the host has ended. */
  moved(): void;
  forget(host: HostProcess): void;
}

/** Host process of a member, with the channel to it. */
export class HostProcess implements HostLink {
  readonly channel: NativeChannel = new addon.Channel();
  readonly withheld: readonly string[];
  readonly #options: HostOptions;
  readonly #listener: HostListener;
  readonly #surroundings: HostSurroundings;
  readonly #child: ChildProcess;
  #begunAtEnd: readonly BegunJob[] | undefined;
  #spawnError: string | undefined;
  #hasEnded: boolean = false;
  #exited: boolean = false;
  /** True once the host has said what cannot be. */
  #isBroken: boolean = false;

  constructor(options: HostOptions, listener: HostListener, surroundings: HostSurroundings) {
    this.#options = options;
    this.#listener = listener;
    this.#surroundings = surroundings;
    const { variables, withheld } = environmentFor(options.env, surroundings.hidden);
    this.withheld = withheld;
    this.#child = spawn(hostExecutable, [String(process.pid), ...sandboxArguments(options, surroundings.locks)], {
      env: variables,
      stdio: ['ignore', 'pipe', 'pipe', this.channel.hostSocket, this.channel.page],
    });
    this.channel.closeHostEnds();
    this.#child.on('error', (error) => {
      this.#spawnError = error.message;
    });
    this.#child.unref();
    const { pid } = this.#child;
    if (!isMainThread && pid !== undefined) addon.noteHost(pid);
    this.#child.once('exit', () => {
      if (!isMainThread && pid !== undefined) addon.forgetHost(pid);
      // Usually the channel has ended before; not if a child process of the library holds its other end.
      this.#exited = true;
      surroundings.moved();
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      (stream as { unref?: () => void } | null)?.unref?.();
      stream?.setEncoding('utf8').on('data', (text: string) => surroundings.printed(options.name, text));
    }
    this.channel.watch(() => surroundings.moved());
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  send(id: number, deadline: number, job: Job, epoch: number): boolean {
    if (this.#hasEnded) return true;
    // Gives the host a time of CLOCK_BOOTTIME: a machine that was suspended begins no job whose deadline has passed.
    writeJob(writer, id, deadline + bootOffset(), job, epoch);
    // Casts safely: only this runtime makes the secrets of jobs.
    return this.channel.send(writer.bytes, writer.length, job.secret as NativeSecret | undefined) !== 1;
  }

  /** Passes arrived replies, and the host's end, to the listener; returns true if there was anything. */
  drain(): boolean {
    if (this.#hasEnded) return false;
    const hasMoved = this.#receive();
    if (!this.channel.ended && !this.#exited) return hasMoved;
    this.#hasEnded = true;
    this.#begunAtEnd = this.channel.lanes();
    this.#listener.ended(this.#endOf());
    this.close();
    return true;
  }

  /** Takes what has arrived. A host that says what cannot be is ended, and nothing more is taken of it (Rule 18). */
  #receive(): boolean {
    if (this.#isBroken) {
      // Finds the end of file, which tells that the process no longer holds the token.
      this.channel.receive();
      return false;
    }
    const received = receiveAll(this.channel, (reply) => this.#listener.replied(reply));
    if (received !== 'impossible') return received === 'something';
    this.#isBroken = true;
    this.kill();
    return true;
  }

  begun(): readonly BegunJob[] {
    return this.#begunAtEnd ?? this.channel.lanes();
  }

  leave(): void {
    this.#child.kill(SHUTDOWN_SIGNAL);
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  close(): void {
    this.#hasEnded = true;
    this.#begunAtEnd ??= this.channel.lanes();
    this.channel.close();
    this.#surroundings.forget(this);
  }

  #endOf(): HostEnd {
    if (this.#isBroken) return { reason: 'the host said what cannot be, and was ended' };
    const { pid } = this.#child;
    if (pid === undefined)
      return { reason: `the host did not start${this.#spawnError === undefined ? '' : `: ${this.#spawnError}`}` };
    const { exitCode, signalCode } = this.#child;
    const seen = addon.processEnd(pid, END_WITHIN);
    const signal =
      signalCode ?? (seen?.signal == null ? null : (signalNames.get(seen.signal) ?? `signal ${seen.signal}`));
    if (signal !== null) return { reason: `the host was ended by ${signal}` };
    const code = exitCode ?? seen?.code ?? null;
    if (code === null) return { reason: 'the host is gone' };
    return { reason: sandboxProblem(this.#options, code) ?? `the host exited with ${code}` };
  }
}
