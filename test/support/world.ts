import { createHash } from 'node:crypto';
import type { GroupEvent } from '../../src/core/base/event.js';
import { type BegunJob, type HostLink, type HostListener, PinReading, type Port } from '../../src/core/base/port.js';
import { FOREVER, type Running, Signal, type Task } from '../../src/core/base/task.js';
import type { GroupConfigInput } from '../../src/core/configuration/configuration.js';
import { checkConfiguration } from '../../src/core/configuration/validation.js';
import type { Claim, Coordinator } from '../../src/core/coordination/coordinator.js';
import { Group } from '../../src/core/group/group.js';
import { keepAll } from '../../src/core/health/member-list.js';
import { awaitService } from '../../src/core/health/opening.js';
import { describedTypes } from '../../src/core/objects/identity.js';
import { Scheduler } from '../../src/runtime/scheduling/scheduler.js';
import { type Attribute, ulongBytes } from '../../src/spec/attribute.js';
import type { CallName, FoundObject } from '../../src/spec/calls.js';
import { ck } from '../../src/spec/constants.js';
import type { Job, StepResult } from '../../src/spec/job.js';
import { noAuthority } from './authority.js';

const CKO_SECRET_KEY = ck('CKO_SECRET_KEY');
const CKK_AES = ck('CKK_AES');

/** Secret key on a scripted token; `secret` stands for its value. */
export interface ScriptedKey {
  readonly label: string;
  readonly secret: string;
}

/** Fault that a scripted token shows in place of a call, or before it (`delay`, ms). */
export type Mischief =
  | { readonly code: number }
  | { readonly delay: number }
  | { readonly silent: true }
  | { readonly crash: true };

/** Function that chooses the fault of a call; undefined lets the call pass. */
export type Behaviour = (call: CallName, job: Job) => Mischief | undefined;

/** Token with made-up answers: enough of PKCS#11 for secret keys, signatures and probes. */
export class ScriptedToken {
  keys: ScriptedKey[];
  /** Templates of the group's records on the token. */
  records: readonly (readonly Attribute[])[] = [];
  behave: Behaviour = () => undefined;
  /** Time that a job takes (ms). */
  latency = 1;
  pin = '1234';
  /** Names of all calls that the token was asked for. */
  readonly calls: CallName[] = [];
  /** Number of hosts that were started. */
  hosts = 0;
  /** Number of signatures that were made. */
  signatures = 0;

  constructor(
    readonly serial: string,
    keys: readonly ScriptedKey[],
  ) {
    this.keys = [...keys];
  }

  /** Returns the result of a call without a fault. */
  answer(name: CallName, args: readonly unknown[]): Pick<StepResult, 'code' | 'value'> {
    const value = this.#value(name, args);
    return typeof value === 'number' ? { code: value, value: undefined } : { code: 0, value };
  }

  #key(ref: unknown): ScriptedKey | undefined {
    return this.keys[(ref as Uint8Array)[0] ?? 0];
  }

  /** Returns the value of a call, or a number for a code. */
  #value(name: CallName, args: readonly unknown[]): unknown {
    switch (name) {
      case 'C_GetSlotList':
        return [0];
      case 'C_GetTokenInfo':
        return {
          label: this.serial,
          serialNumber: this.serial,
          manufacturerID: 'scripted',
          flags: 0x400,
          maxSessionCount: 0,
          maxRwSessionCount: 0,
        };
      case 'C_GetSessionInfo':
        return { slot: 0, state: 3, flags: 0, deviceError: 0 };
      case 'X_Find':
        return this.#find(args[0] as readonly Attribute[], args[2] as readonly number[]);
      case 'C_GetAttributeValue':
        return this.#key(args[0]) === undefined
          ? ck('CKR_OBJECT_HANDLE_INVALID')
          : [{ presence: 'present', value: Buffer.alloc(0) }];
      case 'C_DigestKey':
        this.#digested = this.#key(args[0])?.secret ?? '';
        return undefined;
      case 'C_DigestFinal':
        return createHash('sha256').update(this.#digested).digest();
      case 'C_SignInit':
        this.#signer = this.#key(args[1]);
        return this.#signer === undefined ? ck('CKR_KEY_HANDLE_INVALID') : undefined;
      case 'C_Sign':
        this.signatures += 1;
        return Buffer.from(`${this.#signer?.secret}:${Buffer.from(args[0] as Uint8Array).toString()}`);
      case 'C_EncryptInit':
        return ck('CKR_KEY_FUNCTION_NOT_PERMITTED');
      case 'X_Load':
        return '';
      default:
        return undefined;
    }
  }

  #digested = '';
  #signer: ScriptedKey | undefined;

  #find(template: readonly Attribute[], asked: readonly number[]): FoundObject[] {
    const application = template.find(({ type }) => type === ck('CKA_APPLICATION'))?.value;
    if (application !== undefined) return this.#findRecords(application, asked);
    const label = template.find(({ type }) => type === ck('CKA_LABEL'))?.value;
    return this.keys.flatMap((key, index) => {
      if (label !== undefined && Buffer.from(label).toString() !== key.label) return [];
      const values = new Map<number, Uint8Array>([
        [ck('CKA_CLASS'), ulongBytes(CKO_SECRET_KEY)],
        [ck('CKA_KEY_TYPE'), ulongBytes(CKK_AES)],
        [ck('CKA_LABEL'), Buffer.from(key.label)],
        [ck('CKA_SIGN'), Uint8Array.of(1)],
        [ck('CKA_TOKEN'), Uint8Array.of(1)],
      ]);
      const attributes = describedTypes.map((type) => {
        const value = values.get(type);
        return value === undefined
          ? ({ presence: 'invalid', value: Buffer.alloc(0) } as const)
          : ({ presence: 'present', value: Buffer.from(value) } as const);
      });
      return [{ handle: Uint8Array.of(index, 0, 0, 0, 0, 0, 0, 0), attributes }];
    });
  }

  #findRecords(application: Uint8Array, asked: readonly number[]): FoundObject[] {
    return this.records.flatMap((template, index) => {
      const find = (wanted: number) => template.find(({ type }) => type === wanted)?.value;
      if (Buffer.compare(find(ck('CKA_APPLICATION')) ?? Buffer.alloc(0), application) !== 0) return [];
      const attributes = asked.map((type) => {
        const value = find(type);
        return value === undefined
          ? ({ presence: 'invalid', value: Buffer.alloc(0) } as const)
          : ({ presence: 'present', value: Buffer.from(value) } as const);
      });
      return [{ handle: Uint8Array.of(index, 1, 0, 0, 0, 0, 0, 0), attributes }];
    });
  }
}

/** Host on virtual time. Jobs never wait for each other, whatever the number of lanes. */
class ScriptedHost implements HostLink {
  readonly pid = undefined;
  readonly withheld: readonly string[] = [];
  ended = false;
  readonly #running = new Map<number, BegunJob>();

  constructor(
    readonly token: ScriptedToken,
    readonly listener: HostListener,
    readonly world: World,
  ) {
    token.hosts += 1;
  }

  send(id: number, deadline: number, job: Job): boolean {
    if (this.ended) return true;
    const results: StepResult[] = [];
    let delay = this.token.latency;
    for (const { call, arguments: args } of job.steps) {
      this.token.calls.push(call);
      const mischief = this.token.behave(call, job);
      this.#running.set(id, { job: id, since: this.world.now, longWrite: job.longWrite === true });
      if (mischief !== undefined && 'silent' in mischief) return true;
      if (mischief !== undefined && 'crash' in mischief) {
        this.world.after(0, () => this.end('the host was ended by SIGSEGV'));
        return true;
      }
      if (mischief !== undefined && 'delay' in mischief) delay += mischief.delay;
      const { code, value } =
        mischief !== undefined && 'code' in mischief
          ? { code: mischief.code, value: undefined }
          : this.token.answer(call, args);
      results.push({ call, code, value });
      if (code !== 0) break;
    }
    this.world.after(delay, () => {
      if (this.ended) return;
      this.#running.delete(id);
      this.listener.replied({ id, status: this.world.now > deadline ? 'expired' : 'done', results });
    });
    return true;
  }

  begun(): readonly BegunJob[] {
    return [...this.#running.values()];
  }

  leave(): void {
    this.kill();
  }

  kill(): void {
    this.world.after(0, () => this.end('the host was ended by SIGKILL'));
  }

  close(): void {
    this.ended = true;
  }

  end(reason: string): void {
    if (this.ended) return;
    this.ended = true;
    this.listener.ended({ reason });
  }
}

interface Coming {
  readonly at: number;
  readonly happen: () => void;
}

/** Coordinator of a process that shares its group with no other. */
function loneCoordinator(): Coordinator {
  let fence = 0;
  return {
    writer: 'world',
    writerPath: '/world',
    problem: undefined,
    news: new Signal(),
    releases: new Signal(),
    *claim(name): Task<Claim> {
      fence += 1;
      return { name, fence, expiresAt: FOREVER, lost: new Signal(), path: `/world/${name}`, release: () => {} };
    },
    holderOf: () => undefined,
    isWriterGone: () => undefined,
    isWriterEnding: () => false,
    announce: () => {},
    noteMissed: () => {},
    missedBy: () => [],
    forgetMissed: () => {},
    isAlone: () => true,
    refusalOf: () => undefined,
    noteRefusal: () => {},
    forgetRefusals: () => {},
    tokenLockOf: () => undefined,
  };
}

/** Scripted tokens with a group over them, and a clock that jumps from event to event. */
export class World {
  now = 0;
  readonly events: GroupEvent[] = [];
  readonly scheduler: Scheduler = new Scheduler(() => this.now);
  readonly group: Group;
  readonly hosts: Map<string, HostLink> = new Map();
  #coming: Coming[] = [];
  #seed = 1;

  constructor(
    readonly tokens: Readonly<Record<string, ScriptedToken>>,
    policy: GroupConfigInput['policy'] = {},
    members: Readonly<Record<string, object>> = {},
  ) {
    const config = checkConfiguration({
      label: 'world',
      members: Object.entries(tokens).map(([name, { serial }]) => ({
        name,
        module: name,
        token: { serial },
        ...members[name],
      })),
      policy,
    });
    this.group = new Group(config, this.#port(), loneCoordinator(), { length: 4 });
    keepAll(this.group);
  }

  /** Makes a world and waits until its group serves. */
  static open(...args: ConstructorParameters<typeof World>): World {
    const world = new World(...args);
    world.run(awaitService(world.group, 60_000));
    return world;
  }

  /** Lets something happen after a time (ms). */
  after(ms: number, happen: () => void): void {
    this.#coming.push({ at: this.now + ms, happen });
  }

  /** Starts a task. */
  start<T>(task: Task<T>): Running<T> {
    return this.scheduler.start(task);
  }

  /** Runs a task to its end; returns its value or throws its error. */
  run<T>(task: Task<T>): T {
    const running = this.start(task);
    this.until(() => running.completed);
    if (running.ended?.ok !== true) throw running.ended?.error;
    return running.ended.value;
  }

  /** Lets time pass, event by event, until a condition holds. */
  until(holds: () => boolean): void {
    for (let steps = 0; !holds(); steps += 1) {
      if (steps > 200_000) throw new Error('the condition never holds');
      this.scheduler.step();
      if (holds()) return;
      const next = Math.min(this.scheduler.dueAt, ...this.#coming.map(({ at }) => at));
      if (next === FOREVER) throw new Error('nothing more will happen');
      this.now = Math.max(this.now, next);
      const due = this.#coming.filter(({ at }) => at <= this.now);
      this.#coming = this.#coming.filter(({ at }) => at > this.now);
      for (const { happen } of due) happen();
    }
  }

  /** Lets a time pass (ms). */
  pass(ms: number): void {
    let passed = false;
    this.after(ms, () => {
      passed = true;
    });
    this.until(() => passed);
  }

  /** Returns a member's state. */
  stateOf(name: string): string | undefined {
    return this.group.members.find((member) => member.name === name)?.state.name;
  }

  /** Returns the next of the numbers that are equal in every run, so that a failing scenario fails again. */
  #random(): number {
    this.#seed = (this.#seed * 48_271) % 0x7fff_ffff;
    return this.#seed / 0x7fff_ffff;
  }

  #port(): Port {
    return {
      now: () => this.now,
      random: () => this.#random(),
      start: (task) => this.scheduler.start(task),
      alarm: () => this.scheduler.alarm(),
      deferAbort: (decide) => this.scheduler.deferAbort(decide),
      startHost: ({ name }, listener) => {
        const token = this.tokens[name];
        if (token === undefined) throw new Error(`no token ${name}`);
        const host = new ScriptedHost(token, listener, this);
        this.hosts.set(name, host);
        return host;
      },
      hold: () => {},
      release: () => {},
      sha256: (bytes) => createHash('sha256').update(bytes).digest(),
      randomBytes: (size) => Buffer.alloc(size, 1),
      verifySignature: () => undefined,
      wallNow: () => this.now,
      secrets: {
        make: ({ length }) => ({ length }),
        joined: (one, other) => ({ length: one.length + other.length }),
        areEqual: (one, other) => one === other,
        wipe: () => {},
        readAgain: () => {
          const reading = new PinReading();
          reading.complete();
          return reading;
        },
      },
      authority: noAuthority,
      emit: (event) => this.events.push(event),
      warn: (error) => {
        throw error;
      },
    };
  }
}
