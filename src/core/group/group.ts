import type { SecretRef } from '../../spec/job.js';
import type { GroupEvent } from '../base/event.js';
import { Mutex } from '../base/mutex.js';
import type { Port } from '../base/port.js';
import { reasonOf } from '../base/state.js';
import { type Running, Signal } from '../base/task.js';
import type { GroupConfig, MemberConfig, Policy } from '../configuration/configuration.js';
import type { Claim, Coordinator } from '../coordination/coordinator.js';
import { fromHex, hex } from '../objects/note.js';
import type { ReplicaStatus, VirtualObject } from '../objects/object.js';
import { ObjectTable } from '../objects/object-table.js';
import { Ledger, type RecordsFound } from '../records/ledger.js';
import { Missed } from '../records/missed.js';
import type { ChangeRecord, GroupRecord } from '../records/record.js';
import { HedgeBudget } from './hedge.js';
import { InitChecks } from './init-checks.js';
import { InvalidRecords } from './invalid-records.js';
import type { PendingWork } from './job-outcome.js';
import { LatencyTable } from './latency.js';
import { LoginGate } from './login-gate.js';
import { type GroupTiming, Member } from './member.js';
import { Outcomes } from './outcomes.js';
import { Pins } from './pins.js';
import { RecoveryTurns } from './recovery-turns.js';

/** Group: the members behind one virtual slot, and the state that they share in this process. */
export class Group {
  readonly label: string;
  readonly serial: string;
  policy: Policy;
  /** Members in the configuration's order. */
  members: readonly Member[];
  /** Task that keeps each member in service. */
  readonly keepers: Map<Member, Running<void>> = new Map<Member, Running<void>>();
  readonly objects: ObjectTable;
  /** Latency of operations over all members. */
  readonly latency: LatencyTable = new LatencyTable();
  readonly hedges: HedgeBudget = new HedgeBudget();
  readonly logins: LoginGate = new LoginGate();
  readonly pins: Pins;
  /** Inits that members have accepted. */
  readonly initChecks: InitChecks = new InitChecks();
  readonly timing: GroupTiming;
  /** Fires when a member changes its state or leaves, or the group record changes. */
  readonly changed: Signal = new Signal();
  /** References that are being taken, by object. */
  readonly referencing: Map<VirtualObject, PendingWork> = new Map<VirtualObject, PendingWork>();
  /** Start of the last enumeration of all objects, for unknown handles (ms of the port's clock). */
  enumeratedAt: number = Number.NEGATIVE_INFINITY;
  /** Enumeration that is running. */
  enumerating: Running<void> | undefined;
  /** Start of the last reading of the group record (ms of the port's clock). */
  recordReadAt: number = Number.NEGATIVE_INFINITY;
  /** Reading of the group record that is running. */
  refreshing: Running<void> | undefined;
  readonly ledger: Ledger;
  readonly missed: Missed = new Missed();
  /** True if journal entries or done records were seen on a member, so that there may be some to remove. */
  hasTraces: boolean = false;
  /** Handler of records that a find has read: removes the entries that no member needs. Set by `keepAll`. */
  onRecordsRead: (records: readonly RecordsFound[]) => void = () => undefined;
  /** Handler of a key's destroy: removes old tombstones now and then. Set by `keepAll`. */
  onDestroyed: () => void = () => undefined;
  /** Removal of journal entries and done records that is running. */
  shortening: Running<void> | undefined;
  /** True if a member came into step, or records were read, after the removal has looked last. */
  isShorteningDue: boolean = false;
  /** Claims that this process holds; its hosts hold them too. */
  readonly claims: Set<Claim> = new Set<Claim>();
  /** Mutex of administration: changes of the membership or the PIN, backups, synchronization. */
  readonly administrationMutex: Mutex = new Mutex();
  /** Mutex of writes of the group record. */
  readonly publicationMutex: Mutex = new Mutex();
  /** Ids of the replicated changes that are running in this process. */
  readonly changes: Set<string> = new Set<string>();
  /** Tasks that run without a caller; a closing group waits for them. */
  readonly background: Set<Running<unknown>> = new Set<Running<unknown>>();
  /** Reversals of failed calls that stand on no member, by operation; members undo the calls when they recover. */
  readonly owedReversals: Map<string, ChangeRecord> = new Map<string, ChangeRecord>();
  /** Ids of calls that failed, or began anew under another id. Reconciliation only removes intents of such an id. */
  readonly undoneOperations: Set<string> = new Set<string>();
  /** Outcomes of this process's changes. */
  readonly outcomes: Outcomes = new Outcomes();
  /** Values on tokens that do not have the form of records (Rule 18). */
  readonly invalidRecords: InvalidRecords = new InvalidRecords((event) => this.emit(event));
  readonly recoveryTurns: RecoveryTurns = new RecoveryTurns();
  /** True while the group is being created or checked: members need not belong to it yet. */
  isBeingCreated: boolean = false;
  /** True if the application may see private objects (PKCS#11 2.40, section 2.6). */
  isLoggedIn: boolean;
  /** Last task that asked for the quarantine; the next one waits for its end. */
  quarantine: Running<unknown> | undefined;
  /** Numbers of calls, for the status. */
  readonly counters = { calls: 0, failovers: 0, hedged: 0, quarantined: 0 };
  /** Number of requests of applications; background work gives way to them. */
  requests: number = 0;
  /** Number of attempts; tells round robin which member is next. */
  rotation: number = 0;
  /** Member of the last attempt; routing prefers it for a synchronous caller, since its host is still awake. */
  lastAsked: Member | undefined;
  /** Number of attempts in a row that went to `lastAsked`; begins anew at 1 after a bound. */
  askedInARow: number = 0;
  /** True while a task of a synchronous caller is started: this caller sends no second call meanwhile. */
  isWaitedFor: boolean = false;

  constructor(
    config: GroupConfig,
    readonly port: Port,
    readonly coordinator: Coordinator,
    /** PIN of the group; undefined: no login. */
    pin: SecretRef | undefined,
  ) {
    this.pins = new Pins(pin, port.secrets);
    this.ledger = new Ledger(port.authority);
    const hash = (bytes: Uint8Array): Uint8Array => port.sha256(bytes);
    this.label = config.label;
    this.serial =
      config.serial ??
      `HA${Buffer.from(hash(Buffer.from(config.label)))
        .toString('hex')
        .slice(0, 14)
        .toUpperCase()}`;
    this.policy = config.policy;
    this.isLoggedIn = pin !== undefined;
    this.objects = new ObjectTable(hash, () => this.members.some(({ login }) => login.pin !== undefined));
    this.timing = {
      latency: this.latency,
      hangAfter: config.policy.hangAfter,
      writeHangAfter: config.policy.writeHangAfter,
      attemptTimeout: config.policy.attemptTimeout,
      claims: this.claims,
    };
    this.members = config.members.map((member) => this.makeMember(member));
  }

  /** Current PIN; undefined: no login. */
  get pin(): SecretRef | undefined {
    return this.pins.current;
  }

  /** Makes a member, without adding it to the group. */
  makeMember(config: MemberConfig): Member {
    return new Member(config, this.port, this.timing, (moved, from, reason) => {
      this.emit({ type: 'member', member: moved.name, from, to: moved.state.name, reason });
      this.changed.fire();
    });
  }

  /** Applies the policy of a changed configuration. */
  setPolicy(policy: Policy): void {
    this.policy = policy;
    const { hangAfter, writeHangAfter, attemptTimeout } = policy;
    Object.assign(this.timing, { hangAfter, writeHangAfter, attemptTimeout });
  }

  /** Returns the reason for taking a member out of service; undefined if the member is to serve. */
  orderFor(member: Member): string | undefined {
    if (member.role.removedFor !== undefined) return member.role.removedFor;
    const { config, serial } = member;
    const { isBeingAdded } = member.role;
    if (config.drained) return 'the configuration drains the member';
    if (serial === undefined) return undefined;
    if (!isBeingAdded && !this.ledger.isMember(serial)) return 'the token is not one of the group';
    return this.ledger.isDrained(serial) ? 'an operator drained the member' : undefined;
  }

  /** Salt of fingerprints: equal in all processes of the group, and different for every group. */
  get salt(): Uint8Array {
    const { record } = this.ledger;
    this.#salt ??=
      record === undefined
        ? this.port.sha256(Buffer.from(`pkcs11-ha fingerprint\0${this.serial}`))
        : fromHex(record.salt);
    return this.#salt;
  }

  #salt: Uint8Array | undefined;
  /** Last timestamp that was given or observed. */
  #time: number = 0;

  /** Takes a group record if it is later than the known one, and has the members follow it. */
  adopt(record: GroupRecord): void {
    if (!this.isBeingCreated && this.ledger.trust.of(record) === 'refused') return;
    if (this.ledger.record === undefined) this.#salt = undefined;
    const before = this.ledger.record?.revision;
    const { format } = this.ledger;
    this.observeClock(record.time ?? 0);
    if (!this.ledger.adopt(record)) return;
    // Handles now stand in the key records, which finds have not read yet.
    if (this.ledger.format > format) for (const { connection } of this.members) connection?.named.clear();
    if (before !== undefined && !this.isBeingCreated)
      this.emit({ type: 'membership', revision: record.revision, members: record.members.map(({ name }) => name) });
    for (const member of this.members) {
      member.ordersChanged.fire();
      member.suspicion.fire();
    }
    this.changed.fire();
  }

  /** Returns the serials of the group's members that have not made up for a missed change. */
  missing(record: ChangeRecord): readonly string[] {
    return record.missed.filter((serial) => this.ledger.isMember(serial) && !this.missed.isDone(record, serial));
  }

  /** Returns the serials of the serving members other than the one given. */
  servingBut(member: Member): ReadonlySet<string> {
    const serving = this.members.filter((other) => other !== member && other.isServing);
    return new Set(serving.flatMap(({ serial }) => serial ?? []));
  }

  /** True if the next find is to read the records again, since they are older than `freshness`. */
  get readsRecords(): boolean {
    const { record, aliasesReadAt } = this.ledger;
    return record !== undefined && this.port.now() - aliasesReadAt > this.policy.freshness;
  }

  /** Returns a timestamp of a hybrid logical clock: 1/1024 ms of the wall clock, later than all before. */
  nextTimestamp(): number {
    this.#time = Math.max(this.#time + 1, this.port.wallNow() * 1024);
    return this.#time;
  }

  /** Returns a new name for a call that changes objects. */
  newOperation(): string {
    return hex(this.port.randomBytes(8));
  }

  /** Moves the clock to a timestamp that was read, since another machine's clock may be ahead. */
  observeClock(time: number): void {
    if (Number.isFinite(time)) this.#time = Math.max(this.#time, time);
  }

  /** Keeps the reversal of a failed call until the members have undone the call. */
  oweReversal(entry: ChangeRecord): void {
    this.coordinator.noteMissed(entry.missed);
    this.owedReversals.set(entry.operation, entry);
  }

  /** Notes which members lack a change whose journal entry this process has written on `holders`, for all processes. */
  noteMissed(record: ChangeRecord, holders: readonly string[]): void {
    this.coordinator.noteMissed(record.missed);
    this.missed.note(record, holders);
  }

  /** Keeps the process alive, and a closing group open, until a task has ended. */
  keepAlive(running: Running<unknown>): void {
    if (running.completed) return;
    this.background.add(running);
    this.port.hold();
    running.add({
      wake: () => {
        if (this.background.delete(running)) this.port.release();
      },
    });
  }

  /** Returns true if the application may see an object. */
  isVisible({ description }: VirtualObject): boolean {
    return this.isLoggedIn || !description.private;
  }

  emit(event: GroupEvent): void {
    this.port.emit(event);
  }

  /** Notes the status of an object on a member; emits an event if the replica is newly misaligned or absent. */
  noteReplicaStatus(member: Member, object: VirtualObject, replicaStatus: ReplicaStatus): void {
    const before = object.replicaStatus.get(member.name);
    object.replicaStatus.set(member.name, replicaStatus);
    if (before === replicaStatus) return;
    if (replicaStatus === 'misaligned') this.emit({ type: 'misaligned', member: member.name, object: object.summary });
    if (replicaStatus === 'absent') this.emit({ type: 'missing', member: member.name, object: object.summary });
  }

  /** Number of state changes of all members. */
  get moves(): number {
    return this.members.reduce((sum, { moves }) => sum + moves, 0);
  }

  /** Returns the members' states for errors: `hsm1 is active, hsm2 is down (the host was ended by SIGKILL)`. */
  describeMembers(): string {
    return this.members
      .map(({ name, state }) => `${name} is ${state.name}${reasonOf(state) === '' ? '' : ` (${reasonOf(state)})`}`)
      .join(', ');
  }

  /** True if every member is drained, or down for a reason that only an operator can mend. */
  get isHopeless(): boolean {
    return this.members.every(
      ({ state }) => state.name === 'drained' || (state.name === 'down' && state.retryAt === Number.POSITIVE_INFINITY),
    );
  }
}
