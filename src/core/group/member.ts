import type { MechanismTable, TokenInfo } from '../../spec/calls.js';
import { backoff } from '../base/backoff.js';
import type { Port } from '../base/port.js';
import { type MemberState, moved, reasonOf, type StateName } from '../base/state.js';
import { Signal } from '../base/task.js';
import type { MemberConfig } from '../configuration/configuration.js';
import { Connection, type Timing } from './connection.js';
import { attemptTimeout, LatencyTable, longWriteTimeout } from './latency.js';
import { MemberLogin } from './member-login.js';
import { MemberRecovery } from './member-recovery.js';
import { MemberRole } from './member-role.js';

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
  readonly login: Readonly<MemberLogin> = new MemberLogin();
  readonly recovery: Readonly<MemberRecovery> = new MemberRecovery();
  readonly role: Readonly<MemberRole> = new MemberRole();
  /** Functions with mechanisms that it said it does not have, and until when it is asked last for them. */
  readonly lacking: Map<string, number> = new Map<string, number>();
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
    return this.role.assigned ?? (this.config.standby ? 'standby' : 'active');
  }

  /** It serves from now on, as what it is told to be. */
  serve(): void {
    const since = this.port.now();
    if (this.recovery.staleFor === undefined) this.move({ name: this.assignedState, since });
    else this.move({ name: 'stale', since, reason: this.recovery.staleFor });
    this.role.noteServed();
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
