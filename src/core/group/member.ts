import type { MechanismTable, TokenInfo } from '../../spec/calls.js';
import type { SecretRef } from '../../spec/job.js';
import { backoff } from '../base/backoff.js';
import type { Port } from '../base/port.js';
import { type MemberState, moved, reasonOf, type StateName } from '../base/state.js';
import { Signal } from '../base/task.js';
import type { MemberConfig } from '../configuration/configuration.js';
import { Connection, type Timing } from './connection.js';
import { attemptTimeout, LatencyTable, longWriteTimeout } from './latency.js';

/** What all members of a group share about time. */
export interface GroupTiming {
  readonly latency: LatencyTable;
  hangAfter: number;
  writeHangAfter: number;
  /** ms, or adaptive */
  attemptTimeout: number | 'adaptive';
}

type Moved = (member: Member, from: StateName, reason: string) => void;

const SLOWNESS_GAIN = 1 / 8;
const SLOWNESS_HALF_LIFE = 5000;
const BUSY_FIRST = 5;
const BUSY_MOST = 1000;

/** A partition of the group: its state, its connection while it has one, and how it has been doing. */
export class Member implements Timing {
  readonly name: string;
  readonly latency: LatencyTable = new LatencyTable();
  /** Raised by calls that met a failure here; the health task acts on it. */
  readonly suspicion: Signal = new Signal();
  suspectedFor: string | undefined;
  connection: Connection | undefined;
  /** Functions with mechanisms that it said it does not have, and until when it is asked last for them. */
  readonly lacking: Map<string, number> = new Map<string, number>();
  /** The code by which its token refused the PIN: nobody tries it there again. */
  refusal: number | undefined;
  /** The code by which its token refused the PIN for a key that asks for it each time: it is not tried again. */
  refusalAgain: number | undefined;
  /** The PIN of its last good login. */
  pin: SecretRef | undefined;
  /** The PINs that it has refused since then. */
  readonly refusedPins: Set<SecretRef> = new Set<SecretRef>();
  /** Whether its PIN is just being changed: no login is tried until it is known which one it has. */
  isPinInDoubt: boolean = false;
  /** It exists to try this PIN and no other. */
  trialPin: SecretRef | undefined;
  /** It has few tries left, and waits for another one to prove the PIN. */
  awaitsProof: boolean = false;
  /** Logins here that ended without an answer while the PIN was not proven. */
  unknownLogins: number = 0;
  /** It has to settle what calls left there before it serves again; see settlement.ts. */
  needsRecovery: boolean = false;
  /** Changes that it could not make good, and how often it has tried. */
  readonly failedChanges: Map<string, number> = new Map<string, number>();
  /** When it is to look for what others left, because they may still be at work now (ms of the port's clock). */
  recheckIntentsAt: number = Number.POSITIVE_INFINITY;
  /** Its token has the group's record. */
  isOfGroup: boolean = false;
  /** The revision of the group's record on its token; -1 where there is none. */
  revision: number = -1;
  /** It has been in service in this process. */
  hasServed: boolean = false;
  /** Why it serves without being known to be in step. */
  staleFor: string | undefined;
  /** What it is told to be, whatever it is configured as: promoted or demoted. */
  role: 'active' | 'standby' | undefined;
  /** Why it is not to be used any more: it left the group, or the configuration. */
  removedFor: string | undefined;
  /** It is being made a member: its token need not know the group yet. */
  isBeingAdded: boolean = false;
  /** How often it was tried to give it all keys. */
  fillAttempts: number = 0;
  /** How often in a row it could not be compared with the others. */
  failedComparisons: number = 0;
  /** Nobody logs in there. */
  skipsLogin: boolean = false;
  /** Its own PIN, of a token that is none of the members: nobody else's business. */
  ownPin: SecretRef | undefined;
  /** How many tasks still need its host, although it serves no more. */
  hostUsers: number = 0;
  /** Gives back the right to make it what it has to be, which this process has. */
  claim: (() => void) | undefined;
  /** It is to try to come back now. */
  mustRetryNow: boolean = false;
  /** It is to come back on a fresh host, with what is known now. */
  mustRestartHost: boolean = false;
  /** Fires when it has been told something: to leave, to rest, to come back. */
  readonly ordersChanged: Signal = new Signal();
  /** What it takes its token for, and so whether writes run alone in its host (Rule 5). */
  manufacturer: string = '';
  /** What its token said of itself when it was last joined. */
  token: TokenInfo | undefined;
  /** What its token can do; unknown until somebody asks. */
  mechanisms: MechanismTable | undefined;
  /** The token's serial, from the first time it was met: another one is another token. */
  serial: string | undefined;
  /** How much longer it takes for its operations than the group does on average; 1 is as fast. */
  slowness: number = 1;
  #tookAt = 0;
  /** No new work until then, because it said it is busy (ms of the port's clock). */
  busyUntil: number = 0;
  #busyFailures = 0;
  /** Counts its changes of state. */
  moves: number = 0;
  #state: MemberState;

  constructor(
    public config: MemberConfig,
    private readonly port: Port,
    private readonly group: GroupTiming,
    private readonly onMoved: Moved,
  ) {
    this.name = config.name;
    this.#state = { name: 'joining', since: port.now() };
  }

  get state(): MemberState {
    return this.#state;
  }

  get isActive(): boolean {
    return this.#state.name === 'active';
  }

  /** SoftHSM fails, and leaves objects behind, when token objects are written beside each other. */
  get writesExclusively(): boolean {
    const { exclusiveWrites } = this.config;
    return exclusiveWrites === 'auto' ? this.manufacturer.startsWith('SoftHSM') : exclusiveWrites;
  }

  /** In service: active, in reserve, or stale. */
  get isServing(): boolean {
    return this.isActive || this.#state.name === 'standby' || this.#state.name === 'stale';
  }

  /** The state it has when all is well. */
  get assignedState(): 'active' | 'standby' {
    return this.role ?? (this.config.standby ? 'standby' : 'active');
  }

  releaseClaim(): void {
    this.claim?.();
    this.claim = undefined;
  }

  /** It serves from now on, as what it is told to be. */
  serve(): void {
    const since = this.port.now();
    if (this.staleFor === undefined) this.move({ name: this.assignedState, since });
    else this.move({ name: 'stale', since, reason: this.staleFor });
    this.hasServed = true;
  }

  move(to: MemberState): void {
    const from = this.#state;
    this.#state = moved(from, to);
    this.moves += 1;
    this.onMoved(this, from.name, reasonOf(to));
  }

  connect(): Connection {
    const connection = new Connection(this.port, this);
    this.connection = connection;
    return connection;
  }

  /** Says that this member failed a call; has an effect only on one that is in service. */
  suspect(connection: Connection, reason: string): void {
    if (connection !== this.connection || this.suspectedFor !== undefined) return;
    this.suspectedFor = reason;
    this.suspicion.fire();
  }

  backOff(): void {
    this.#busyFailures += 1;
    this.busyUntil =
      this.port.now() + Math.max(1, backoff(this.#busyFailures, BUSY_FIRST, BUSY_MOST, this.port.random()));
  }

  /** The work that waits for it, as far as it takes: what routing compares. */
  get cost(): number {
    return (((this.connection?.load ?? 0) + 1) * this.#slowness()) / this.config.weight;
  }

  longWriteTimeoutOf(kind: string): number {
    return longWriteTimeout(this.#boundOf(kind), this.group.hangAfter, this.group.writeHangAfter);
  }

  timeoutOf(kind: string): number {
    if (this.group.attemptTimeout !== 'adaptive') return this.group.attemptTimeout;
    return attemptTimeout(this.#boundOf(kind), this.group.hangAfter);
  }

  #boundOf(kind: string): number | undefined {
    return this.latency.boundOf(kind) ?? this.group.latency.boundOf(kind);
  }

  took(kind: string, duration: number, late: boolean): void {
    this.latency.update(kind, duration);
    // What was late tells about this member, not about the operation.
    if (!late) this.group.latency.update(kind, duration);
    const expected = this.group.latency.meanOf(kind);
    if (expected === undefined || expected <= 0) return;
    const ratio = Math.min(100, duration / expected);
    this.slowness += (ratio - this.slowness) * SLOWNESS_GAIN;
    this.slowness = Math.max(0.05, this.slowness);
    this.#tookAt = this.port.now();
    this.#busyFailures = 0;
  }

  // A member that was slow gets little work, so what is known of it grows old: it is forgiven with time.
  #slowness(): number {
    if (this.slowness <= 1) return this.slowness;
    return 1 + (this.slowness - 1) * 2 ** ((this.#tookAt - this.port.now()) / SLOWNESS_HALF_LIFE);
  }
}
