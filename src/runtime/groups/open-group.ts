import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { GroupEvent } from '../../core/base/event.js';
import type { HostLink, HostListener, HostOptions, Port } from '../../core/base/port.js';
import { FOREVER, type Running, type Task } from '../../core/base/task.js';
import { race, sleepUntil } from '../../core/base/waiting.js';
import type { GroupConfig, GroupConfigInput, PinReference } from '../../core/configuration/configuration.js';
import { ConfigurationError, checkConfiguration, parseConfiguration } from '../../core/configuration/validation.js';
import { Group } from '../../core/group/group.js';
import { applyConfiguration, keepAll } from '../../core/health/member-list.js';
import { awaitService } from '../../core/health/opening.js';
import { keepPins } from '../../core/pin/pin-keeper.js';
import { keepSessionObjects } from '../../core/replication/session-keeper.js';
import { type Job, step } from '../../spec/job.js';
import { addon, type NativeSecret } from '../hosts/addon.js';
import { HostProcess } from '../hosts/host.js';
import { HaLog } from '../log/ha-log.js';
import { isWriterGone, makeWriter } from '../processes/writer.js';
import { monotonicNow } from '../scheduling/clock.js';
import { Driver } from '../scheduling/driver.js';
import { sha256, verifySignature } from '../secrets/crypto.js';
import { readPin } from '../secrets/pin.js';
import { Secrets } from '../secrets/secrets.js';
import { ConfigurationFile } from './configuration-file.js';

/** How long a closing group waits for its hosts to finalize their libraries (ms). */
const FINALIZE_WITHIN = 500;

/** Hosts that were told to leave are killed after so long (ms), and looked at so often. */
const LEAVE_WITHIN = 100;
const LOOK_AGAIN = 2;

/** Alone: what was given up may still be running in the library. */
const FINALIZE: Job = { steps: [step('C_Finalize')], sessionless: true, exclusive: true };

/** A configuration, or the path of its YAML file. */
export type ConfigurationSource = string | GroupConfigInput;

/** Reads and checks a configuration; nothing is started. */
export function readConfiguration(source: ConfigurationSource): GroupConfig {
  if (typeof source !== 'string') return checkConfiguration(source);
  let text: string;
  try {
    text = readFileSync(source, 'utf8');
  } catch (error) {
    throw new ConfigurationError(source, [`cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`]);
  }
  return parseConfiguration(text, source);
}

type Listener = (event: GroupEvent) => void;

/** A group with its hosts and its driver: what every face works with. */
export class OpenGroup {
  readonly group: Group;
  readonly #driver = new Driver();
  readonly #listeners = new Set<Listener>();
  readonly #file: ConfigurationFile | undefined;
  /** The PINs that it knows. */
  readonly secrets: Secrets;
  readonly #beside: readonly Running<void>[];
  #hidden: readonly string[];
  readonly #log: HaLog | undefined;
  #closing: Promise<void> | undefined;

  /**
   * Starts the hosts; `awaitService` tells when the group can be used. The file, where there is one, is watched. The
   * hosts do not get the environment's variables in `hidden`, nor that of the PIN.
   */
  constructor(config: GroupConfig, path?: string, hidden: readonly string[] = []) {
    this.#hidden = config.pin?.env === undefined ? hidden : [...hidden, config.pin.env];
    this.secrets = new Secrets(config.pin, () => this.#driver.move());
    const pin = config.pin === undefined ? undefined : this.secrets.hold(readPin(config.pin));
    this.#log = config.log === undefined ? undefined : new HaLog(config.log, config.label);
    this.group = new Group(config, this.#port(), pin);
    keepAll(this.group);
    this.#beside = [keepPins(this.group), keepSessionObjects(this.group)].map((task) => this.#driver.start(task));
    if (path !== undefined) this.#file = new ConfigurationFile(path, () => this.#reconfigure(path));
    this.#driver.setTimer();
  }

  get isClosed(): boolean {
    return this.#closing !== undefined;
  }

  /** ms of the group's clock: for deadlines. */
  now(): number {
    return monotonicNow();
  }

  /** Gives what ends it. */
  onEvent(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when the group can be used; see core/opening.ts. */
  async awaitService(deadline: number, signal?: AbortSignal): Promise<void> {
    await this.run(awaitService(this.group, deadline), signal);
  }

  /** The same on this thread. */
  awaitServiceSync(deadline: number): void {
    this.runSync(awaitService(this.group, deadline));
  }

  /** Runs a task to its end; an aborted one rejects with the signal's reason. */
  run<T>(task: Task<T>, signal?: AbortSignal): Promise<T> {
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    this.group.requests += 1;
    return this.#driver.resultOf(this.#driver.start(task), signal);
  }

  /** Runs a task to its end on this thread, and whatever it depends on; the event loop waits meanwhile. */
  runSync<T>(task: Task<T>): T {
    this.group.requests += 1;
    this.group.isWaitedFor = true;
    const running = this.#driver.start(task);
    this.group.isWaitedFor = false;
    return this.#driver.finish(running);
  }

  /** The PIN of a token that is none of the members'; whoever asks for it wipes it. */
  readPin(reference: PinReference): NativeSecret {
    if (reference.env !== undefined) this.#hidden = [...this.#hidden, reference.env];
    return readPin(reference);
  }

  /** Finishes what is running, ends the hosts and forgets the PIN. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** The same on this thread: what is under way is waited for, by its own deadlines, and the hosts are told to leave. */
  closeSync(): void {
    if (this.isClosed) return;
    this.#closing = Promise.resolve();
    this.runSync(this.#underWay());
    this.#endWork();
    try {
      this.runSync(this.#shutDown());
    } finally {
      this.#endHosts();
    }
  }

  /** The configuration file has changed: what it says of the members, and the policy, holds from now on. */
  #reconfigure(path: string): void {
    if (this.isClosed) return;
    let problem: string | undefined;
    try {
      const { label, members, policy } = readConfiguration(path);
      if (label === this.group.label) {
        this.group.setPolicy(policy);
        applyConfiguration(this.group, members);
      } else problem = `${path}: label: a group that is open cannot get another one`;
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error);
    }
    this.#emit({ type: 'configuration', problem });
    this.#driver.move();
  }

  async #close(): Promise<void> {
    await this.#driver.idle();
    this.#endWork();
    try {
      await this.run(this.#shutDown());
    } finally {
      this.#endHosts();
    }
  }

  /** Waits for what callers wait for, and for what goes on behind them. */
  *#underWay(): Task<void> {
    for (;;) {
      const left = [...this.#driver.awaited(), ...this.group.background].filter(({ completed }) => !completed);
      if (left.length === 0) return;
      yield* race(left, FOREVER);
    }
  }

  /** Nothing goes on by itself from now on. */
  #endWork(): void {
    this.#file?.close();
    for (const running of this.#beside) running.cancel(undefined);
    this.group.shortening?.cancel(undefined);
    for (const keeper of [...this.group.keepers.values()]) keeper.cancel(undefined);
  }

  *#shutDown(): Task<void> {
    for (const { connection } of this.group.members) {
      if (connection !== undefined) yield* connection.awaitWrites(this.group.policy);
    }
    yield* this.#finalize();
    for (const host of this.#driver.hosts) host.leave();
    yield* this.#hostsGone();
  }

  #endHosts(): void {
    for (const host of [...this.#driver.hosts]) {
      host.kill();
      host.close();
    }
    this.#driver.stop();
    this.secrets.wipeAll();
    this.#log?.close();
  }

  /** Gives libraries the chance to take leave of their HSM; one that hangs is not waited for. */
  *#finalize(): Task<void> {
    const until = monotonicNow() + FINALIZE_WITHIN;
    const tickets = this.group.members.flatMap(({ connection }) =>
      connection === undefined || connection.end !== undefined ? [] : [connection.submit(FINALIZE, 'finalize', until)],
    );
    for (const ticket of tickets) if (!ticket.completed && monotonicNow() < until) yield* race([ticket], until);
  }

  /** Waits for hosts that were told to leave; longer only for one that is just writing. */
  *#hostsGone(): Task<void> {
    const { writeHangAfter } = this.group.policy;
    const until = monotonicNow() + LEAVE_WITHIN;
    const isAwaited = (host: HostProcess): boolean =>
      monotonicNow() < until ||
      host.begun().some(({ longWrite, since }) => longWrite && monotonicNow() - since < writeHangAfter);
    while ([...this.#driver.hosts].some(isAwaited)) yield* sleepUntil(monotonicNow() + LOOK_AGAIN);
  }

  #emit(event: GroupEvent): void {
    this.#log?.write(event, Date.now());
    // In the next turn: a listener must not run inside a synchronous call that it knows nothing of.
    setImmediate(() => {
      for (const listener of this.#listeners) listener(event);
    }).unref();
  }

  #startHost(options: HostOptions, listener: HostListener): HostLink {
    const host = new HostProcess(options, listener, {
      hidden: this.#hidden,
      printed: (member, text) => this.#emit({ type: 'output', member, text }),
      moved: () => this.#driver.move(),
      forget: (ended) => this.#driver.remove(ended),
    });
    this.#driver.add(host);
    return host;
  }

  #port(): Port {
    return {
      now: monotonicNow,
      random: () => Math.random(),
      start: (task) => this.#driver.start(task),
      alarm: () => this.#driver.alarm(),
      startHost: (options, listener) => this.#startHost(options, listener),
      hold: () => this.#driver.hold(),
      release: () => this.#driver.release(),
      sha256,
      randomBytes: (size) => randomBytes(size),
      verifySignature,
      wallNow: () => Date.now(),
      writer: makeWriter(),
      isWriterGone,
      claim: (name) => {
        const descriptor = addon.claim(name);
        return descriptor < 0 ? undefined : () => addon.releaseClaim(descriptor);
      },
      secrets: this.secrets,
      emit: (event) => this.#emit(event),
      warn: (error) => process.emitWarning(error instanceof Error ? error : String(error)),
    };
  }
}
