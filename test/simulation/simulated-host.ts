import type { BegunJob, HostLink, HostListener } from '../../src/core/base/port.js';
import type { Attribute } from '../../src/spec/attribute.js';
import type { CallName, ObjectRef } from '../../src/spec/calls.js';
import { CKA } from '../../src/spec/codes.js';
import { ck } from '../../src/spec/constants.js';
import type { Job, SecretRef, StepResult } from '../../src/spec/job.js';
import type { Mechanism } from '../../src/spec/mechanism.js';
import type { Fleet, SimulatedMachine } from './fleet.js';
import type { FleetHost } from './parts.js';
import {
  type BegunOperation,
  begin,
  CKM,
  complete,
  Refused,
  type SimulatedToken,
  type StoredObject,
  unwrap,
  wrap,
} from './simulated-token.js';

const CKS_USER = 3;
const CKS_PUBLIC = 2;
const TOKEN_FLAGS = 0x40d;
const OK = 0;
/** Probability that a kill inside a write leaves a hollow object. */
const HOLLOW = 0.3;
/** Longest time for which a host that is told to leave finishes its writes (ms), as in native/host/process/shutdown.cc. */
const LEAVES_WITHIN = 3000;

/** PIN in a simulation: its text is at hand. */
export interface SimulatedSecret extends SecretRef {
  readonly text: string;
}

/** Job that a host has taken. */
interface Taken {
  readonly id: number;
  readonly deadline: number;
  readonly job: Job;
  readonly epoch: number;
  since: number;
  next: number;
  readonly results: StepResult[];
  readonly objects: (StoredObject | undefined)[];
  readonly seconds: (StoredObject | undefined)[];
  readonly created: StoredObject[];
  operation: BegunOperation | undefined;
  /** Object that the last step wrote. */
  last: StoredObject | undefined;
}

/** Host of one member on virtual time. Each step of a job takes its time, so that jobs of other hosts come in between. */
export class SimulatedHost implements HostLink, FleetHost {
  readonly withheld: readonly string[] = [];
  readonly pid: number;
  ended: boolean = false;
  readonly #running = new Set<Taken>();
  #waiting: Taken[] = [];
  #epoch = 0;
  #isLoggedIn = false;
  #usesLock = false;
  #isLeaving = false;
  #standsUntil = 0;
  readonly #mask: number;

  constructor(
    readonly fleet: Fleet,
    readonly machine: SimulatedMachine,
    readonly member: string,
    readonly token: SimulatedToken,
    readonly listener: HostListener,
    /** Runs something in the application, unless that has ended. */
    readonly tell: (work: () => void) => void,
  ) {
    this.pid = fleet.nextPid();
    // Handles differ from host to host, so that one of an earlier host is another object's, or nobody's.
    this.#mask = 1 + fleet.chance.below(5);
  }

  send(id: number, deadline: number, job: Job, epoch: number): boolean {
    if (this.ended) return true;
    const taken: Taken = {
      ...{ id, deadline, job, epoch, since: 0, next: 0, results: [], objects: [], seconds: [], created: [] },
      operation: undefined,
      last: undefined,
    };
    this.#waiting.push(taken);
    this.#after(this.fleet.latency(), () => this.#startNext());
    return true;
  }

  begun(): readonly BegunJob[] {
    return [...this.#running].map(({ id, since, job }) => ({ job: id, since, longWrite: job.longWrite === true }));
  }

  leave(): void {
    this.#isLeaving = true;
    // A stopped host continues when its application ends.
    this.#standsUntil = this.fleet.now;
    this.#waiting = [];
    this.#endIfIdle();
    this.#after(LEAVES_WITHIN, () => this.end('the host is gone'));
  }

  /** Ends the host as SIGKILL does; a write that is under way may leave a hollow object. */
  kill(): void {
    for (const { job, last } of this.#running)
      if (job.longWrite === true && last?.holder === undefined && this.fleet.chance.happens(HOLLOW))
        last?.attributes.clear();
    this.end('the host was ended by SIGKILL');
  }

  /** Stops the host for a time (ms), as SIGSTOP does. */
  stand(ms: number): void {
    this.#standsUntil = this.fleet.now + ms;
  }

  get isWriting(): boolean {
    return [...this.#running].some(({ job }) => job.longWrite === true);
  }

  close(): void {
    this.leave();
  }

  end(reason: string): void {
    if (this.ended) return;
    this.ended = true;
    this.#waiting = [];
    this.token.endSession(this);
    this.machine.freeToken(this.token.serial, this);
    this.machine.hostEnded(this);
    this.tell(() => this.listener.ended({ reason }));
  }

  /** Describes the jobs that run and wait, for people. */
  describe(): string {
    const names = (jobs: Iterable<Taken>): string =>
      [...jobs]
        .map(({ job, next }) => `${job.steps[next]?.call ?? 'the end'} (${next} of ${job.steps.length})`)
        .join(', ');
    return `${this.member}: runs ${names(this.#running)}; waits ${names(this.#waiting)}`;
  }

  #after(ms: number, work: () => void): void {
    const happen = (): void => {
      if (this.fleet.now < this.#standsUntil) this.fleet.after(this.#standsUntil - this.fleet.now, happen);
      else if (!this.ended) work();
    };
    this.fleet.after(ms, happen);
  }

  #endIfIdle(): void {
    if (this.#isLeaving && !this.isWriting) this.end('the host is gone');
  }

  #startNext(): void {
    for (;;) {
      const [first] = this.#waiting;
      const isAlone = [...this.#running].some(({ job }) => job.exclusive === true);
      if (this.ended || first === undefined || this.#isLeaving || isAlone) return;
      if (first.job.exclusive === true && this.#running.size > 0) return;
      if (this.#locksToken(first.job) && !this.machine.lockToken(this.token.serial, this, () => this.#startNext()))
        return;
      this.#waiting.shift();
      this.#begin(first);
    }
  }

  #locksToken({ exclusive, longWrite, slow }: Job): boolean {
    return this.#usesLock && exclusive === true && longWrite === true && slow !== true;
  }

  #begin(taken: Taken): void {
    const { job, deadline, epoch } = taken;
    taken.since = this.fleet.now;
    this.#running.add(taken);
    if (job.steps.at(-1)?.call === 'C_Login') this.#epoch = epoch;
    const isOfLogin = job.sessionless === true || epoch === this.#epoch;
    if (this.fleet.now > deadline || !isOfLogin) this.#reply(taken, 'expired');
    else this.#step(taken);
  }

  #step(taken: Taken): void {
    const { job } = taken;
    const step = job.steps[taken.next];
    if (step === undefined) {
      this.#reply(taken, 'done');
      return;
    }
    const fault = this.fleet.faultAt(this, step.call);
    if (fault === 'kill') {
      this.end('the host was ended by SIGKILL');
      return;
    }
    if (fault === 'hang') return;
    taken.next += 1;
    // A call that fails ends the operation that it belongs to.
    if (fault !== undefined) taken.operation = undefined;
    const result =
      fault === undefined ? this.#perform(taken, step.call, step.arguments) : { code: fault.code, value: undefined };
    taken.results.push({ call: step.call, ...result, optional: step.optional === true });
    const hasFailed = result.code !== OK && step.optional !== true;
    if (hasFailed && job.undo === true) for (const object of taken.created) this.token.objects.delete(object.id);
    this.#after(this.fleet.latency(), () => (hasFailed ? this.#reply(taken, 'done') : this.#step(taken)));
  }

  #reply(taken: Taken, status: 'done' | 'expired'): void {
    this.#running.delete(taken);
    if (this.#locksToken(taken.job)) this.machine.freeToken(this.token.serial, this);
    const { id, results } = taken;
    this.tell(() => this.listener.replied({ id, status, results: status === 'expired' ? [] : results }));
    this.#endIfIdle();
    if (!this.ended) this.#startNext();
  }

  #perform(taken: Taken, call: CallName, args: readonly unknown[]): { code: number; value: unknown } {
    taken.objects.push(undefined);
    taken.seconds.push(undefined);
    taken.last = undefined;
    try {
      return { code: OK, value: this.#value(taken, call, args) };
    } catch (error) {
      if (error instanceof Refused) return { code: error.code, value: call === 'X_Load' ? '' : undefined };
      throw error;
    }
  }

  #handle({ id }: StoredObject): Buffer {
    const handle = Buffer.alloc(8);
    handle.writeUInt32LE(id + this.#mask);
    return handle;
  }

  #object(taken: Taken, ref: unknown): StoredObject {
    const given = ref as ObjectRef;
    const object =
      given instanceof Uint8Array
        ? this.token.objects.get(Buffer.from(given).readUInt32LE() - this.#mask)
        : (given.second === true ? taken.seconds : taken.objects)[given.step];
    const isThere = object !== undefined && this.token.objects.get(object.id) === object;
    if (!isThere || (object.holder !== undefined && object.holder !== this))
      throw new Refused(ck('CKR_OBJECT_HANDLE_INVALID'));
    return object;
  }

  #key(taken: Taken, ref: unknown): StoredObject {
    try {
      return this.#object(taken, ref);
    } catch {
      throw new Refused(ck('CKR_KEY_HANDLE_INVALID'));
    }
  }

  #made(taken: Taken, object: StoredObject): Buffer {
    taken.objects[taken.objects.length - 1] = object;
    taken.created.push(object);
    taken.last = object;
    return this.#handle(object);
  }

  #value(taken: Taken, call: CallName, args: readonly unknown[]): unknown {
    const { token, fleet } = this;
    const [first, second, third, fourth] = args;
    switch (call) {
      case 'X_Load':
        if (fleet.isAway(this.member)) throw new Refused(ck('CKR_DEVICE_ERROR'));
        return '';
      case 'C_GetSlotList':
        return [0];
      case 'C_GetTokenInfo':
        return tokenInfo(token.serial);
      case 'C_GetSessionInfo':
        return { slot: 0, state: this.#isLoggedIn ? CKS_USER : CKS_PUBLIC, flags: 0, deviceError: 0 };
      case 'C_GetMechanismList':
        return Object.values(CKM);
      case 'C_GetMechanismInfo':
        return { shortestKey: 16, longestKey: 4096, flags: 0xfffff };
      case 'X_UseTokenLock':
        this.#usesLock = true;
        return undefined;
      case 'C_Login':
        this.#logIn(taken.job.secret);
        return undefined;
      case 'X_Find':
        return this.#find(taken, first as readonly Attribute[], second as number, third as readonly number[]);
      case 'X_FindHollow':
        return [...token.objects.values()]
          .filter(({ holder, attributes }) => holder === this || (holder === undefined && attributes.size === 0))
          .map((each) => this.#handle(each));
      case 'C_GetAttributeValue':
        return token.read(this.#object(taken, first), second as readonly number[]);
      case 'C_GetObjectSize':
        return this.#object(taken, first).attributes.size * 16;
      case 'C_CreateObject':
        return this.#made(taken, token.add(first as readonly Attribute[], new Map(), this));
      case 'C_CopyObject': {
        const source = this.#object(taken, first);
        return this.#made(taken, token.add(second as readonly Attribute[], new Map(source.attributes), this));
      }
      case 'C_SetAttributeValue':
        taken.last = this.#object(taken, first);
        for (const { type, value } of second as readonly Attribute[])
          taken.last.attributes.set(type, Buffer.from(value));
        return undefined;
      case 'C_DestroyObject':
        token.destroy(this.#object(taken, first));
        return undefined;
      case 'C_GenerateKey': {
        const { type } = first as Mechanism;
        return this.#made(taken, token.generate(type, second as readonly Attribute[], this, fleet.chance));
      }
      case 'C_GenerateKeyPair':
        return this.#makePair(taken, first as Mechanism, second as readonly Attribute[], third as readonly Attribute[]);
      case 'C_WrapKey':
        return wrap((first as Mechanism).type, this.#key(taken, second), this.#key(taken, third));
      case 'C_UnwrapKey': {
        const value = unwrap((first as Mechanism).type, this.#key(taken, second), third as Uint8Array);
        return this.#made(taken, token.add(fourth as readonly Attribute[], new Map([[CKA.value, value]]), this));
      }
      case 'C_GenerateRandom':
        return fleet.chance.bytes(first as number);
      default:
        return this.#operate(taken, call, args);
    }
  }

  #operate(taken: Taken, call: CallName, [first, second]: readonly unknown[]): unknown {
    const active = (): BegunOperation => {
      if (taken.operation === undefined) throw new Refused(ck('CKR_OPERATION_NOT_INITIALIZED'));
      return taken.operation;
    };
    switch (call) {
      case 'C_DigestInit':
        taken.operation = begin((first as Mechanism).type, [CKM.sha256]);
        return undefined;
      case 'C_SignInit':
        taken.operation = begin((first as Mechanism).type, [CKM.hmac], this.#key(taken, second));
        return undefined;
      case 'C_EncryptInit':
      case 'C_DecryptInit':
        taken.operation = begin((first as Mechanism).type, [CKM.ecb], this.#key(taken, second));
        return undefined;
      case 'C_DigestUpdate':
        active().data = Buffer.concat([active().data, first as Uint8Array]);
        return undefined;
      case 'C_DigestKey':
        active().data = Buffer.concat([
          active().data,
          this.#key(taken, first).attributes.get(CKA.value) ?? Buffer.alloc(0),
        ]);
        return undefined;
      case 'C_DigestFinal':
        return complete(active(), Buffer.alloc(0));
      case 'C_Digest':
      case 'C_Sign':
        return complete(active(), first as Uint8Array);
      case 'C_Encrypt':
      case 'C_Decrypt':
        return { output: complete(active(), first as Uint8Array, call === 'C_Decrypt'), returned: [] };
      default:
        if (call.startsWith('X_') || ['C_Finalize', 'C_OpenSession', 'C_SeedRandom'].includes(call)) return undefined;
        throw new Refused(ck('CKR_FUNCTION_NOT_SUPPORTED'));
    }
  }

  #logIn(secret: SecretRef | undefined): void {
    if ((secret as SimulatedSecret | undefined)?.text !== this.token.pin) throw new Refused(ck('CKR_PIN_INCORRECT'));
    this.#isLoggedIn = true;
  }

  #find(taken: Taken, template: readonly Attribute[], most: number, types: readonly number[]): unknown {
    const found = this.token.find(template, this, this.#isLoggedIn).slice(0, most);
    taken.objects[taken.objects.length - 1] = found[0];
    return found.map((object) => ({ handle: this.#handle(object), attributes: this.token.read(object, types) }));
  }

  #makePair(
    taken: Taken,
    { type }: Mechanism,
    ofPublic: readonly Attribute[],
    ofPrivate: readonly Attribute[],
  ): { publicKey: Buffer; privateKey: Buffer } {
    const pair = this.token.generatePair(type, ofPublic, ofPrivate, this, this.fleet.chance);
    taken.objects[taken.objects.length - 1] = pair.publicKey;
    taken.seconds[taken.seconds.length - 1] = pair.privateKey;
    taken.created.push(pair.publicKey, pair.privateKey);
    return { publicKey: this.#handle(pair.publicKey), privateKey: this.#handle(pair.privateKey) };
  }
}

function tokenInfo(serial: string): object {
  return {
    label: serial,
    serialNumber: serial,
    manufacturerID: 'SoftHSM project',
    model: 'simulated',
    flags: TOKEN_FLAGS,
    maxSessionCount: 0,
    maxRwSessionCount: 0,
    longestPin: 255,
    shortestPin: 4,
    hardwareVersion: '2.6',
    firmwareVersion: '2.6',
    utcTime: '',
  };
}
