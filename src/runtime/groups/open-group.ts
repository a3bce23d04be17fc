import { randomBytes } from 'node:crypto';
import type { GroupEvent } from '../../core/base/event.js';
import type { HostLink, HostListener, HostOptions, Port } from '../../core/base/port.js';
import { FOREVER, type Running, type Task } from '../../core/base/task.js';
import { race } from '../../core/base/waiting.js';
import type { GroupConfig, PinReference } from '../../core/configuration/configuration.js';
import { Group } from '../../core/group/group.js';
import { applyConfiguration, keepAll } from '../../core/health/member-list.js';
import { followNews } from '../../core/health/news.js';
import { awaitService } from '../../core/health/opening.js';
import { keepPins } from '../../core/pin/pin-keeper.js';
import { keepSessionObjects } from '../../core/replication/session-keeper.js';
import { LocalCoordinator } from '../coordination/local/local-coordinator.js';
import type { NativeSecret } from '../hosts/addon.js';
import { HostProcess } from '../hosts/host.js';
import { HaLog } from '../log/ha-log.js';
import { monotonicNow } from '../scheduling/clock.js';
import { Driver } from '../scheduling/driver.js';
import { sha256, verifySignature } from '../secrets/crypto.js';
import { fetchPin, readPin } from '../secrets/pin.js';
import type { ReadingLimits } from '../secrets/pin-source.js';
import { Secrets } from '../secrets/secrets.js';
import { AdministrationKeys } from '../trust/administration-keys.js';
import { awaitHosts, finalizeLibraries } from './closing.js';
import { ConfigurationFile } from './configuration-file.js';
import { readConfiguration } from './configuration-source.js';
import { hiddenVariables, type OpeningOptions } from './opening-options.js';

type Listener = (event: GroupEvent) => void;

/** Group with its hosts and its driver; every face works with one. */
export class OpenGroup {
  readonly group: Group;
  readonly #driver = new Driver();
  readonly #listeners = new Set<Listener>();
  readonly #file: ConfigurationFile | undefined;
  /** PINs that the group holds. */
  readonly secrets: Secrets;
  readonly #background: readonly Running<void>[];
  #hidden: readonly string[];
  readonly #log: HaLog | undefined;
  readonly #coordinator: LocalCoordinator;
  readonly #authority: AdministrationKeys;
  #closing: Promise<void> | undefined;

  /**
   * Reads the PIN within some time (ms), then starts the hosts; `awaitService` tells when the group can be used.
   * Rejects with PinError if there is no PIN by then.
   */
  static async open(config: GroupConfig, options: OpeningOptions = {}): Promise<OpenGroup> {
    const pin = config.pin === undefined ? undefined : await fetchPin(config.pin, options);
    return new OpenGroup(config, pin, options);
  }

  /** Does the same on this thread; throws PinError. */
  static openSync(config: GroupConfig, options: OpeningOptions = {}): OpenGroup {
    return new OpenGroup(config, config.pin === undefined ? undefined : readPin(config.pin), options);
  }

  private constructor(
    config: GroupConfig,
    pin: NativeSecret | undefined,
    { path, hidden = [], triesAgain, trustsAll = false }: OpeningOptions,
  ) {
    this.#hidden = hiddenVariables(config, hidden);
    this.#authority = new AdministrationKeys(config.administration, () => this.#driver.move(), trustsAll);
    this.secrets = new Secrets(config.pin, () => this.#driver.move());
    if (pin !== undefined) this.secrets.hold(pin);
    try {
      this.#log = config.log === undefined ? undefined : new HaLog(config.log, config.label);
      this.#coordinator = this.#coordinate(config);
    } catch (error) {
      this.secrets.wipeAll();
      throw error;
    }
    this.group = new Group(config, this.#port(), this.#coordinator, pin);
    for (const { name, login } of this.group.members) if ([name, 'all'].includes(triesAgain ?? '')) login.tryAgain();
    keepAll(this.group);
    const tasks = [keepPins(this.group), keepSessionObjects(this.group), followNews(this.group)];
    this.#background = tasks.map((task) => this.#driver.start(task));
    if (path !== undefined) this.#file = new ConfigurationFile(path, () => this.#reconfigure(path));
    this.#driver.setTimer();
  }

  get isClosed(): boolean {
    return this.#closing !== undefined;
  }

  /** Reads the group's clock (ms), for deadlines. */
  now(): number {
    return monotonicNow();
  }

  /** Adds a listener for the group's events; the returned function removes it. */
  onEvent(listener: Listener): () => void {
    this.#listeners.add(listener);
    const { problem } = this.#coordinator;
    // Told later, since nobody can listen before the group is open.
    if (problem !== undefined) setImmediate(() => listener({ type: 'coordination', problem })).unref();
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when the group can be used; see core/health/opening.ts. */
  async awaitService(deadline: number, signal?: AbortSignal): Promise<void> {
    await this.run(awaitService(this.group, deadline), signal);
  }

  /** Waits on this thread until the group can be used. */
  awaitServiceSync(deadline: number): void {
    this.runSync(awaitService(this.group, deadline));
  }

  /** Runs a task to its end; if the signal aborts, cancels the task and rejects with the signal's reason. */
  run<T>(task: Task<T>, signal?: AbortSignal): Promise<T> {
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    this.group.requests += 1;
    return this.#driver.resultOf(this.#driver.start(task), signal);
  }

  /** Runs a task, and the tasks it depends on, to its end on this thread; the event loop waits meanwhile. */
  runSync<T>(task: Task<T>): T {
    this.group.requests += 1;
    this.group.isWaitedFor = true;
    const running = this.#driver.start(task);
    this.group.isWaitedFor = false;
    return this.#driver.finish(running);
  }

  /** Reads the PIN of a token that is not a member, and hides its variable from hosts; the caller wipes the PIN. */
  fetchPin(reference: PinReference, limits: ReadingLimits): Promise<NativeSecret> {
    if (reference.env !== undefined) this.#hidden = [...this.#hidden, reference.env];
    return fetchPin(reference, limits);
  }

  /** Finishes running calls, ends the hosts and wipes the PIN. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /**
   * Closes on this thread: waits for calls under way, by their own deadlines, then ends the hosts and wipes the PIN.
   */
  closeSync(): void {
    if (this.isClosed) return;
    this.#closing = Promise.resolve();
    this.runSync(this.#awaitCalls());
    this.#endWork();
    try {
      this.runSync(this.#shutDown());
    } finally {
      this.#endHosts();
    }
  }

  /** Applies the policy and the members of a changed configuration file. */
  #reconfigure(path: string): void {
    if (this.isClosed) return;
    let problem: string | undefined;
    try {
      const { label, members, policy, administration } = readConfiguration(path);
      if (label === this.group.label) {
        this.group.setPolicy(policy);
        this.#authority.configure(administration);
        applyConfiguration(this.group, members);
      } else problem = `${path}: label: the label of an open group cannot change`;
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

  /** Waits for the tasks that callers wait for, and for the group's background tasks. */
  *#awaitCalls(): Task<void> {
    for (;;) {
      const left = [...this.#driver.awaited(), ...this.group.background].filter(({ completed }) => !completed);
      if (left.length === 0) return;
      yield* race(left, FOREVER);
    }
  }

  /** Ends the tasks that run by themselves. */
  #endWork(): void {
    this.#file?.close();
    for (const running of this.#background) running.cancel(undefined);
    this.group.shortening?.cancel(undefined);
    for (const keeper of [...this.group.keepers.values()]) keeper.cancel(undefined);
  }

  *#shutDown(): Task<void> {
    for (const { connection } of this.group.members) {
      if (connection !== undefined) yield* connection.awaitWrites(this.group.policy);
    }
    yield* finalizeLibraries(this.group);
    for (const host of this.#driver.hosts) host.leave();
    yield* awaitHosts(this.#driver, this.group.policy);
  }

  #endHosts(): void {
    for (const host of [...this.#driver.hosts]) {
      host.kill();
      host.close();
    }
    this.#driver.stop();
    this.#coordinator.close();
    this.secrets.wipeAll();
    this.#log?.close();
  }

  #emit(event: GroupEvent): void {
    this.#log?.write(event, Date.now());
    // Calls listeners in the next turn: a listener must not run inside a synchronous call of the application.
    setImmediate(() => {
      for (const listener of this.#listeners) listener(event);
    }).unref();
  }

  #coordinate({ locks, label, policy }: GroupConfig): LocalCoordinator {
    const report = (problem: string): void => this.#emit({ type: 'coordination', problem });
    const coordinator = new LocalCoordinator(locks, label, {
      start: (task) => this.#driver.start(task),
      moved: () => this.#driver.move(),
      longestWrite: () => (this.group ?? { policy }).policy.writeHangAfter,
      report,
    });
    if (coordinator.problem !== undefined)
      this.#log?.write({ type: 'coordination', problem: coordinator.problem }, Date.now());
    return coordinator;
  }

  #startHost(options: HostOptions, listener: HostListener): HostLink {
    const host = new HostProcess(options, listener, {
      hidden: this.#hidden,
      locks: this.#coordinator.locks.path,
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
      deferAbort: (decide) => this.#driver.deferAbort(decide),
      startHost: (options, listener) => this.#startHost(options, listener),
      hold: () => this.#driver.hold(),
      release: () => this.#driver.release(),
      sha256,
      randomBytes: (size) => randomBytes(size),
      verifySignature,
      wallNow: () => Date.now(),
      secrets: this.secrets,
      authority: this.#authority,
      emit: (event) => this.#emit(event),
      warn: (error) => process.emitWarning(error instanceof Error ? error : String(error)),
    };
  }
}
