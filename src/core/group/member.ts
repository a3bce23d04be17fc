import type { MechanismTable, TokenInfo } from '../../spec/calls.js';
import type { Job } from '../../spec/job.js';
import { backoff } from '../base/backoff.js';
import type { Port } from '../base/port.js';
import { type MemberState, moved, reasonOf, type StateName } from '../base/state.js';
import { Signal } from '../base/task.js';
import type { MemberConfig } from '../configuration/configuration.js';
import type { Claim } from '../coordination/coordinator.js';
import { Connection } from './connection.js';
import { attemptTimeout, LatencyTable, longWriteTimeout, type Timing } from './latency.js';
import { MemberLogin } from './member-login.js';
import { MemberPosition } from './member-position.js';
import { MemberRecovery } from './member-recovery.js';
import { MemberRole } from './member-role.js';

/** Times that all members of a group share (ms), and the group's latency. */
export interface GroupTiming {
  readonly latency: LatencyTable;
  hangAfter: number;
  writeHangAfter: number;
  /** Time-out of attempts (ms), or `adaptive`. */
  attemptTimeout: number | 'adaptive';
  /** Claims that this process holds. */
  readonly claims: ReadonlySet<Claim>;
}

/** Listener to a member's changes of state. */
type Moved = (member: Member, from: StateName, reason: string) => void;

/** Share of each sample in the slowness. */
const SLOWNESS_GAIN = 1 / 8;
/** Half-life of the slowness above 1 (ms). */
const SLOWNESS_HALF_LIFE = 5000;
/** Longest pause after the first busy answer (ms). */
const BUSY_FIRST = 5;
/** Longest pause after a busy answer (ms). */
const BUSY_MOST = 1000;

/** Member of the group: a token with its state, its connection and its latency. */
export class Member implements Timing {
  readonly name: string;
  readonly latency: LatencyTable = new LatencyTable();
  /** Fires when a call has failed on the member; the health task then probes it. */
  readonly suspicion: Signal = new Signal();
  /** Reason for the suspicion, until the health task has dealt with it. */
  suspectedFor: string | undefined;
  connection: Connection | undefined;
  readonly login: Readonly<MemberLogin> = new MemberLogin();
  readonly position: Readonly<MemberPosition> = new MemberPosition();
  readonly recovery: Readonly<MemberRecovery> = new MemberRecovery();
  readonly role: Readonly<MemberRole> = new MemberRole();
  /** Functions with mechanisms that the member said it lacks, with the time until which routing believes that. */
  readonly lacking: Map<string, number> = new Map<string, number>();
  /** Fires when the orders for the member change: to leave, to drain, to come back. */
  readonly ordersChanged: Signal = new Signal();
  /** manufacturerID of the token; decides whether writes run alone in the host (Rule 5). */
  manufacturer: string = '';
  /** Token information of the last join. */
  token: TokenInfo | undefined;
  /** Mechanisms of the token; undefined until a call asks for them. */
  mechanisms: MechanismTable | undefined;
  /** Serial of the token, from the first join on; another serial is another token. */
  serial: string | undefined;
  /** Factor by which the member's operations take longer than the group's on average. */
  slowness: number = 1;
  /** Time of the last sample (ms of the port's clock). */
  #tookAt = 0;
  /** Time until which the member gets no new work, since it answered busy (ms of the port's clock). */
  busyUntil: number = 0;
  #busyFailures = 0;
  /** Number of the member's state changes. */
  moves: number = 0;
  #state: MemberState;
  readonly #port: Port;
  readonly #timing: GroupTiming;
  readonly #onMoved: Moved;

  constructor(
    public config: MemberConfig,
    port: Port,
    timing: GroupTiming,
    onMoved: Moved,
  ) {
    this.name = config.name;
    this.#port = port;
    this.#timing = timing;
    this.#onMoved = onMoved;
    this.#state = { name: 'joining', since: port.now() };
  }

  get state(): MemberState {
    return this.#state;
  }

  get isActive(): boolean {
    return this.#state.name === 'active';
  }

  /** True if writes run alone in the host (Rule 5). In parallel, SoftHSM's writes fail and leave partial objects. */
  get writesExclusively(): boolean {
    const { exclusiveWrites } = this.config;
    return exclusiveWrites === 'auto' ? this.manufacturer.startsWith('SoftHSM') : exclusiveWrites;
  }

  /** True while the member is active, standby or stale. */
  get isServing(): boolean {
    return this.isActive || this.#state.name === 'standby' || this.#state.name === 'stale';
  }

  /** State that the member is to have when all is well. */
  get assignedState(): 'active' | 'standby' {
    return this.role.assigned ?? (this.config.standby ? 'standby' : 'active');
  }

  /** Has the member serve in its assigned state, or as stale. */
  serve(): void {
    const since = this.#port.now();
    if (this.recovery.staleFor === undefined) this.move({ name: this.assignedState, since });
    else this.move({ name: 'stale', since, reason: this.recovery.staleFor });
    this.role.noteServed();
  }

  /** Moves the member to a state (Rule 4), and tells the listener. */
  move(to: MemberState): void {
    const from = this.#state;
    this.#state = moved(from, to);
    this.moves += 1;
    this.#onMoved(this, from.name, reasonOf(to));
  }

  /** States the reason for which a recovering member does not serve yet. */
  explain(reason: string): void {
    if (this.#state.name === 'recovering') this.#state = { ...this.#state, reason };
  }

  /** Makes a new connection. */
  connect(): Connection {
    const connection = new Connection(this.#port, this);
    this.connection = connection;
    return connection;
  }

  /** Raises a suspicion, unless there is one or the connection is no longer the member's. */
  suspect(connection: Connection, reason: string): void {
    if (connection !== this.connection || this.suspectedFor !== undefined) return;
    this.suspectedFor = reason;
    this.suspicion.fire();
  }

  /** Has the member recover before it goes on to serve. */
  requireRecovery(reason: string): void {
    this.recovery.require();
    if (this.connection !== undefined) this.suspect(this.connection, reason);
  }

  /** Keeps new work away for a while, after a busy answer. */
  backOff(): void {
    this.#busyFailures += 1;
    this.busyUntil =
      this.#port.now() + Math.max(1, backoff(this.#busyFailures, BUSY_FIRST, BUSY_MOST, this.#port.random()));
  }

  /** Cost of one more job: the work that waits, times the slowness, by the weight. Routing compares it. */
  get cost(): number {
    return (((this.connection?.load ?? 0) + 1) * this.#slowness()) / this.config.weight;
  }

  beginBy({ job, deadline }: { readonly job: Job; readonly deadline: number }): number {
    let earliest = deadline;
    // A write begins before any claim that may guard it has expired.
    if (job.longWrite === true)
      for (const { expiresAt } of this.#timing.claims) earliest = Math.min(earliest, expiresAt);
    return earliest;
  }

  timeoutOf({ job, kind }: { readonly job: Job; readonly kind: string }): number {
    const { hangAfter, writeHangAfter, attemptTimeout: fixed } = this.#timing;
    if (job.longWrite === true) return longWriteTimeout(this.#boundOf(kind), hangAfter, writeHangAfter);
    return fixed === 'adaptive' ? attemptTimeout(this.#boundOf(kind), hangAfter) : fixed;
  }

  #boundOf(kind: string): number | undefined {
    return this.latency.boundOf(kind) ?? this.#timing.latency.boundOf(kind);
  }

  took(kind: string, duration: number, late: boolean): void {
    this.latency.update(kind, duration);
    // A late operation tells of the member, not of the operation.
    if (!late) this.#timing.latency.update(kind, duration);
    const expected = this.#timing.latency.meanOf(kind);
    if (expected === undefined || expected <= 0) return;
    const ratio = Math.min(100, duration / expected);
    this.slowness += (ratio - this.slowness) * SLOWNESS_GAIN;
    this.slowness = Math.max(0.05, this.slowness);
    this.#tookAt = this.#port.now();
    this.#busyFailures = 0;
  }

  // Decays with time: a slow member gets little work, so its samples grow old.
  #slowness(): number {
    if (this.slowness <= 1) return this.slowness;
    return 1 + (this.slowness - 1) * 2 ** ((this.#tookAt - this.#port.now()) / SLOWNESS_HALF_LIFE);
  }
}
