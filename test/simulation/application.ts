import { createHash } from 'node:crypto';
import type { GroupEvent } from '../../src/core/base/event.js';
import { type Authority, PinReading, type Port, Signing } from '../../src/core/base/port.js';
import { FOREVER, type Running, type Task } from '../../src/core/base/task.js';
import { checkConfiguration } from '../../src/core/configuration/validation.js';
import { Group } from '../../src/core/group/group.js';
import { keepAll } from '../../src/core/health/member-list.js';
import { followNews } from '../../src/core/health/news.js';
import { keepPins } from '../../src/core/pin/pin-keeper.js';
import { keepSessionObjects } from '../../src/core/replication/session-keeper.js';
import { Scheduler } from '../../src/runtime/scheduling/scheduler.js';
import type { SecretRef } from '../../src/spec/job.js';
import type { Fleet, SimulatedMachine } from './fleet.js';
import type { FleetApplication } from './parts.js';
import { SimulatedCoordinator } from './simulated-coordinator.js';
import { SimulatedHost, type SimulatedSecret } from './simulated-host.js';

/** Public key of the simulated administration key. */
const KEY = 'ab'.repeat(32);
/** Difference of the wall clock to the virtual one (ms). */
const EPOCH = 1_700_000_000_000;

const digestOf = (statement: Uint8Array): string => createHash('sha512').update(statement).digest('hex');

/** Authority of which every application has the key: signatures are digests. */
const authority: Authority = {
  keysFor: () => [KEY],
  verify: (key, statement, signature) => key === KEY && signature === digestOf(statement),
  canSign: () => true,
  prepare: () => undefined,
  discard: () => undefined,
  sign: (_group, statement) => {
    const signing = new Signing();
    signing.signature = { key: KEY, value: digestOf(statement) };
    signing.complete();
    return signing;
  },
};

const textOf = (secret: SecretRef): string => (secret as SimulatedSecret).text;
const secretOf = (text: string): SimulatedSecret => ({ text, length: text.length });

/** Application of a machine: the whole core, unchanged, on the ports of the simulation. */
export class Application implements FleetApplication {
  readonly group: Group;
  readonly coordinator: SimulatedCoordinator;
  readonly events: GroupEvent[] = [];
  isAlive: boolean = true;
  standsSince: number | undefined;
  /** Time for which the application has stood still (ms). */
  stood: number = 0;
  #standsUntil = 0;
  /** Callbacks for the end of the application. */
  readonly onKilled: (() => void)[] = [];
  readonly #scheduler: Scheduler;
  readonly #hosts = new Set<SimulatedHost>();

  constructor(
    readonly fleet: Fleet,
    readonly machine: SimulatedMachine,
    readonly writer: string,
  ) {
    this.#scheduler = new Scheduler(() => fleet.now);
    const config = checkConfiguration({
      label: 'fleet',
      members: [...fleet.tokens].map(([name, { serial }]) => ({ name, module: '/library', token: { serial } })),
      pin: { env: 'PIN' },
      policy: { hangAfter: 500, writeHangAfter: 2000, deadline: 10_000 },
    });
    fleet.applications.add(this);
    this.coordinator = new SimulatedCoordinator(machine, this);
    this.group = new Group(config, this.#port(), this.coordinator, secretOf('1234'));
    keepAll(this.group);
    for (const task of [keepPins(this.group), keepSessionObjects(this.group), followNews(this.group)]) this.start(task);
  }

  get dueAt(): number {
    if (!this.isAlive) return FOREVER;
    return this.standsSince === undefined ? this.#scheduler.dueAt : this.#standsUntil;
  }

  step(): void {
    if (this.isAlive && this.standsSince === undefined) this.#scheduler.step();
  }

  /** Stops the application for a time (ms), as SIGSTOP does; its hosts go on. */
  stand(ms: number): void {
    this.standsSince = this.fleet.now;
    this.stood += ms;
    this.#standsUntil = this.fleet.now + ms;
    this.fleet.after(ms, () => {
      this.standsSince = undefined;
    });
  }

  start<T>(task: Task<T>): Running<T> {
    return this.#scheduler.start(task);
  }

  /** Runs something in this application, once it runs, unless it has ended. */
  readonly tell = (work: () => void): void => {
    const deliver = (): void => {
      if (this.standsSince !== undefined) this.fleet.after(this.#standsUntil - this.fleet.now, deliver);
      else if (this.isAlive) work();
    };
    this.fleet.after(0, deliver);
  };

  /** Runs a task to its end; returns its value or throws its error. */
  run<T>(task: Task<T>, within: number = 120_000): T {
    const running = this.start(task);
    if (!this.fleet.until(() => running.completed, within)) throw new Error('the task does not end');
    if (running.ended?.ok !== true) throw running.ended?.error;
    return running.ended.value;
  }

  /** Ends the application as SIGKILL does: its hosts end by themselves, after a write in progress, at most in 3 s. */
  kill(): void {
    this.isAlive = false;
    this.fleet.applications.delete(this);
    for (const host of this.#hosts) host.leave();
    for (const told of this.onKilled) told();
  }

  /** Returns the hosts that live. */
  hosts(): readonly SimulatedHost[] {
    return [...this.#hosts].filter(({ ended }) => !ended);
  }

  #startHost(member: string, listener: SimulatedHost['listener']): SimulatedHost {
    const { fleet, machine } = this;
    const host = new SimulatedHost(fleet, machine, member, fleet.tokenOf(member), listener, this.tell);
    this.#hosts.add(host);
    machine.hostStarted(host, this);
    return host;
  }

  #port(): Port {
    const { fleet } = this;
    return {
      now: () => fleet.now,
      random: () => fleet.chance.next(),
      start: (task) => this.#scheduler.start(task),
      alarm: () => this.#scheduler.alarm(),
      deferAbort: (decide) => this.#scheduler.deferAbort(decide),
      startHost: ({ name }, listener) => this.#startHost(name, listener),
      hold: () => {},
      release: () => {},
      sha256: (bytes) => createHash('sha256').update(bytes).digest(),
      randomBytes: (size) => fleet.chance.bytes(size),
      verifySignature: () => undefined,
      wallNow: () => EPOCH + fleet.now,
      secrets: {
        make: (bytes) => secretOf(Buffer.from(bytes).toString()),
        joined: (one, other) => secretOf(textOf(one) + textOf(other)),
        areEqual: (one, other) => textOf(one) === textOf(other),
        wipe: () => {},
        readAgain: () => {
          const reading = new PinReading();
          reading.complete();
          return reading;
        },
      },
      authority,
      emit: (event) => this.events.push(event),
      warn: (error) => {
        throw error;
      },
    };
  }
}
