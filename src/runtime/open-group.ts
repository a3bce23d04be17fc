import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { GroupConfig, GroupConfigInput, PinReference } from '../core/configuration.js';
import type { GroupEvent } from '../core/event.js';
import { Group } from '../core/group.js';
import { awaitService } from '../core/opening.js';
import { keepPins } from '../core/pin-keeper.js';
import { Places } from '../core/places.js';
import type { HostLink, HostListener, HostOptions, Port } from '../core/port.js';
import { keep, takeUp } from '../core/roster.js';
import { keepSessionObjects } from '../core/session-keeper.js';
import { type Alarm, FOREVER, type Running, type Task } from '../core/task.js';
import { ConfigurationError, checkConfiguration, parseConfiguration } from '../core/validation.js';
import { type Job, step } from '../spec/job.js';
import { addon, type NativeSecret } from './addon.js';
import { monotonicNow } from './clock.js';
import { ConfigurationFile } from './configuration-file.js';
import { sha256, verifySignature } from './crypto.js';
import { HaLog } from './ha-log.js';
import { HostProcess } from './host.js';
import { readPin } from './pin.js';
import { Scheduler } from './scheduler.js';
import { Secrets } from './secrets.js';
import { isWriterGone, makeWriter } from './writer.js';

/**
 * How long a synchronous wait spins before it sleeps (µs): longer than short waits have been, and hardly at all where
 * even those take long. To sleep makes a wait longer: so it is the short ones that tell.
 */
const LONGEST_SPIN = 500;
const SHORTEST_SPIN = 50;
const GAIN_OF_SHORTER = 1 / 4;
const GAIN_OF_LONGER = 1 / 64;
const LONGEST_TIMER = 0x7fff_ffff;
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

/**
 * A group with its hosts, clock and scheduler: what every face drives. The event loop steps the tasks when a
 * channel has something or time has come; a synchronous call steps them itself until its own task is done.
 */
export class OpenGroup {
  readonly group: Group;
  readonly #scheduler = new Scheduler(monotonicNow);
  readonly #hosts = new Set<HostProcess>();
  readonly #listeners = new Set<Listener>();
  readonly #file: ConfigurationFile | undefined;
  /** The PINs that it knows. */
  readonly secrets: Secrets;
  readonly #beside: readonly Running<void>[];
  #hidden: readonly string[];
  readonly #log: HaLog | undefined;
  #timer: NodeJS.Timeout | undefined;
  #timerAt: number = FOREVER;
  #calls: number = 0;
  /** How long short synchronous waits have been (µs). */
  #shortWait: number = SHORTEST_SPIN;
  /** Tasks that callers wait for. */
  readonly #awaited = new Places<Running<unknown>>();
  #idle: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  /**
   * Starts the hosts; `awaitService` tells when the group can be used. The file, where there is one, is watched. The
   * hosts do not get the environment's variables in `hidden`, nor that of the PIN.
   */
  constructor(config: GroupConfig, path?: string, hidden: readonly string[] = []) {
    this.#hidden = config.pin?.env === undefined ? hidden : [...hidden, config.pin.env];
    this.secrets = new Secrets(config.pin, () => this.#move());
    const pin = config.pin === undefined ? undefined : this.secrets.hold(readPin(config.pin));
    this.#log = config.log === undefined ? undefined : new HaLog(config.log, config.label);
    this.group = new Group(config, this.#port(), pin);
    for (const member of this.group.members) keep(this.group, member);
    this.#beside = [keepPins(this.group), keepSessionObjects(this.group)].map((task) => this.#scheduler.start(task));
    if (path !== undefined) this.#file = new ConfigurationFile(path, () => this.#reconfigure(path));
    this.#settle();
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
    // Not an async function, and one promise: this is what every call passes through.
    return new Promise<T>((resolve, reject) => {
      signal?.throwIfAborted();
      this.group.requests += 1;
      const running = this.#scheduler.start(task);
      this.#stepDrained();
      if (running.settled) {
        this.#settle();
        settleAs(running, resolve, reject);
        return;
      }
      const abort = (): void => {
        running.cancel(signal?.reason);
        this.#move();
      };
      signal?.addEventListener('abort', abort, { once: true });
      this.#count(1);
      const place = this.#awaited.add(running);
      const wake = (): void => {
        if (this.#awaited.at(place) !== running) return;
        this.#awaited.remove(place);
        signal?.removeEventListener('abort', abort);
        settleAs(running, resolve, reject);
        this.#count(-1);
      };
      running.add({ wake });
      this.#settle();
    });
  }

  /** Runs a task to its end on this thread, and whatever it depends on; the event loop waits meanwhile. */
  runSync<T>(task: Task<T>): T {
    this.group.requests += 1;
    this.group.isWaitedFor = true;
    const running = this.#scheduler.start(task);
    this.group.isWaitedFor = false;
    while (!running.settled) {
      this.#stepDrained();
      if (running.settled) break;
      const wait = Math.max(0, Math.min(this.#scheduler.dueAt - monotonicNow(), LONGEST_TIMER));
      this.#waitFor(wait);
      this.#drain();
    }
    // What the monitor has due gets its slice, since a synchronous program has no event loop to give it one.
    this.#stepDrained();
    this.#settle();
    return endOf(running);
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
      this.runSync(this.#farewell());
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
        takeUp(this.group, members);
      } else problem = `${path}: label: a group that is open cannot get another one`;
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error);
    }
    this.#emit({ type: 'configuration', problem });
    this.#move();
  }

  async #close(): Promise<void> {
    if (this.#calls > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    this.#endWork();
    try {
      await this.run(this.#farewell());
    } finally {
      this.#endHosts();
    }
  }

  /** Waits for what callers wait for, and for what goes on behind them. */
  *#underWay(): Task<void> {
    for (;;) {
      const left = [...this.#awaited.all(), ...this.group.background].filter(({ settled }) => !settled);
      if (left.length === 0) return;
      yield { signals: left, until: FOREVER };
    }
  }

  /** Nothing goes on by itself from now on. */
  #endWork(): void {
    this.#file?.close();
    for (const running of this.#beside) running.cancel(undefined);
    this.group.tidying?.cancel(undefined);
    for (const keeper of [...this.group.keepers.values()]) keeper.cancel(undefined);
  }

  *#farewell(): Task<void> {
    for (const { connection } of this.group.members) {
      if (connection !== undefined) yield* connection.awaitWrites(this.group.policy);
    }
    yield* this.#finalize();
    for (const host of this.#hosts) host.leave();
    yield* this.#hostsGone();
  }

  #endHosts(): void {
    for (const host of [...this.#hosts]) {
      host.kill();
      host.close();
    }
    clearTimeout(this.#timer);
    this.secrets.wipeAll();
    this.#log?.close();
  }

  /** Gives libraries the chance to take leave of their HSM; one that hangs is not waited for. */
  *#finalize(): Task<void> {
    const until = monotonicNow() + FINALIZE_WITHIN;
    const tickets = this.group.members.flatMap(({ connection }) =>
      connection === undefined || connection.end !== undefined ? [] : [connection.submit(FINALIZE, 'finalize', until)],
    );
    for (const ticket of tickets) if (!ticket.settled && monotonicNow() < until) yield { signals: [ticket], until };
  }

  /** Waits for hosts that were told to leave; longer only for one that is just writing. */
  *#hostsGone(): Task<void> {
    const { writeHangAfter } = this.group.policy;
    const until = monotonicNow() + LEAVE_WITHIN;
    const isAwaited = (host: HostProcess): boolean =>
      monotonicNow() < until ||
      host.begun().some(({ patient, since }) => patient && monotonicNow() - since < writeHangAfter);
    while ([...this.#hosts].some(isAwaited)) yield { signals: [], until: monotonicNow() + LOOK_AGAIN };
  }

  // Only calls under way keep the process alive: an idle group does not.
  #count(change: number): void {
    const before = this.#calls;
    this.#calls += change;
    if (before === 0) {
      for (const host of this.#hosts) host.channel.ref();
      this.#timer?.ref();
    } else if (this.#calls === 0) {
      for (const host of this.#hosts) host.channel.unref();
      this.#timer?.unref();
      this.#idle?.();
    }
  }

  /** Waits on this thread until something has come, or so long (ms). */
  #waitFor(time: number): void {
    const startedAt = monotonicNow();
    addon.waitReadable(this.#channels(), time, this.#shortWait > LONGEST_SPIN / 2 ? SHORTEST_SPIN : LONGEST_SPIN);
    const change = (monotonicNow() - startedAt) * 1000 - this.#shortWait;
    this.#shortWait += change * (change < 0 ? GAIN_OF_SHORTER : GAIN_OF_LONGER);
  }

  #channels(): HostProcess['channel'][] {
    return [...this.#hosts].map((host) => host.channel);
  }

  /** Takes in what has come, before anything is judged late (Rule 2). */
  #drain(): void {
    for (const host of [...this.#hosts]) host.drain();
  }

  /** Steps; and before anything that is due may be judged, takes in what has come. */
  #stepDrained(): void {
    if (this.#scheduler.dueAt <= monotonicNow()) this.#drain();
    this.#scheduler.step();
  }

  /** Something has come, or time has: step the tasks and see to being called again. */
  #move(): void {
    this.#drain();
    this.#scheduler.step();
    this.#settle();
  }

  #settle(): void {
    const { dueAt } = this.#scheduler;
    if (dueAt === this.#timerAt) return;
    // A timer that comes too early costs less than setting a new one for every call.
    if (this.#timer !== undefined && this.#timerAt <= dueAt) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#timerAt = dueAt;
    if (dueAt === FOREVER) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#timerAt = FOREVER;
        this.#move();
      },
      Math.min(LONGEST_TIMER, Math.max(0, dueAt - monotonicNow())),
    );
    if (this.#calls === 0) this.#timer.unref();
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
      moved: () => this.#move(),
      forget: (ended) => this.#hosts.delete(ended),
    });
    this.#hosts.add(host);
    if (this.#calls > 0) host.channel.ref();
    return host;
  }

  #port(): Port {
    return {
      now: monotonicNow,
      random: () => Math.random(),
      start: (task) => this.#scheduler.start(task),
      alarm: (): Alarm => this.#scheduler.alarm(),
      startHost: (options, listener) => this.#startHost(options, listener),
      hold: () => this.#count(1),
      release: () => this.#count(-1),
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

function settleAs<T>(running: Running<T>, resolve: (value: T) => void, reject: (error: unknown) => void): void {
  const { ended } = running;
  if (ended?.ok === true) resolve(ended.value);
  else reject(ended?.error);
}

function endOf<T>(running: Running<T>): T {
  const { ended } = running;
  if (ended === undefined) throw new Error('the task has not ended');
  if (!ended.ok) throw ended.error;
  return ended.value;
}
