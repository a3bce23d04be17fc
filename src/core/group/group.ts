import type { SecretRef } from '../../spec/job.js';
import type { GroupEvent } from '../base/event.js';
import { Mutex } from '../base/mutex.js';
import type { Port } from '../base/port.js';
import { reasonOf } from '../base/state.js';
import { type Running, Signal } from '../base/task.js';
import type { GroupConfig, MemberConfig, Policy } from '../configuration/configuration.js';
import { fromHex } from '../objects/note.js';
import { ObjectTable, type ReplicaStatus, type VirtualObject } from '../objects/object.js';
import { Ledger, type RecordsFound } from '../records/ledger.js';
import { Missed } from '../records/missed.js';
import type { ChangeRecord, GroupRecord } from '../records/record.js';
import { HedgeBudget } from './hedge.js';
import { InitChecks } from './init-checks.js';
import type { PendingWork } from './job-outcome.js';
import { LatencyTable } from './latency.js';
import { LoginGate } from './login-gate.js';
import { type GroupTiming, Member } from './member.js';
import { Pins } from './pins.js';

/** The members that act as one virtual slot, and what they know in common. */
export class Group {
  readonly label: string;
  readonly serial: string;
  policy: Policy;
  /** In the configuration's order. */
  members: readonly Member[];
  /** What keeps each of them in service. */
  readonly keepers: Map<Member, Running<void>> = new Map<Member, Running<void>>();
  readonly objects: ObjectTable;
  readonly latency: LatencyTable = new LatencyTable();
  readonly hedges: HedgeBudget = new HedgeBudget();
  readonly logins: LoginGate = new LoginGate();
  readonly pins: Pins;
  /** Which Inits members have taken. */
  readonly initChecks: InitChecks = new InitChecks();
  readonly timing: GroupTiming;
  /** Fires when a member changes its state. */
  readonly changed: Signal = new Signal();
  /** Fingerprints being taken, by object. */
  readonly referencing: Map<VirtualObject, PendingWork> = new Map<VirtualObject, PendingWork>();
  /** The last enumeration of all objects, for handles that this process has not met (ms of the port's clock). */
  enumeratedAt: number = Number.NEGATIVE_INFINITY;
  enumerating: Running<void> | undefined;
  /** When the group's record was last read (ms of the port's clock). */
  recordReadAt: number = Number.NEGATIVE_INFINITY;
  /** How long that took (ms), and the reading that goes on. */
  recordReadTook: number = 0;
  refreshing: Running<void> | undefined;
  readonly ledger: Ledger = new Ledger();
  readonly missed: Missed = new Missed();
  /** Journal entries, or what says that members are done with them, were seen on some member. */
  hasTraces: boolean = false;
  /** Called when a find has read records: the journal removes what no member needs. Set by `keepAll`. */
  onRecordsRead: (records: readonly RecordsFound[]) => void = () => undefined;
  /** What takes them off again. */
  shortening: Running<void> | undefined;
  /** The turns of work on the group: changes of the membership, backups, the PIN, synchronizing. */
  readonly administrationMutex: Mutex = new Mutex();
  /** The turn of those that write the group's record. */
  readonly publicationMutex: Mutex = new Mutex();
  /** Replicated calls under way, by operation. */
  readonly changes: Set<string> = new Set<string>();
  /** What goes on without a caller; a group that closes waits for it. */
  readonly background: Set<Running<unknown>> = new Set<Running<unknown>>();
  /** What could be noted nowhere: members have to undo it when they are met again. */
  readonly owedReversals: Map<string, ChangeRecord> = new Map<string, ChangeRecord>();
  /** Calls that have not happened, whose intents may still stand somewhere. */
  readonly undoneOperations: Set<string> = new Set<string>();
  /** Calls that have happened, although nothing but this process says so. */
  readonly committedOperations: Set<string> = new Set<string>();
  /** The turn of members that settle what they have missed. */
  readonly recoveryMutex: Mutex = new Mutex();
  /** While it is being formed: members need not belong to it yet. */
  isBeingCreated: boolean = false;
  /** Whether private objects exist for the application (PKCS#11 2.40, section 2.6). */
  isLoggedIn: boolean;
  /** The quarantine's turn: the last who asked for it. */
  quarantine: Running<unknown> | undefined;
  readonly counters = { calls: 0, failovers: 0, hedged: 0, quarantined: 0 };
  /** How often applications have asked for something: work that nobody waits for gives way to them. */
  requests: number = 0;
  rotation: number = 0;
  /** The member that was asked last, and how often in a row. */
  lastAsked: Member | undefined;
  askedInARow: number = 0;
  /** What begins now has a caller that waits for it and does nothing else. */
  isWaitedFor: boolean = false;

  constructor(
    config: GroupConfig,
    readonly port: Port,
    /** The PIN; undefined when nobody logs in. */
    pin: SecretRef | undefined,
  ) {
    this.pins = new Pins(pin, port.secrets);
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
    this.objects = new ObjectTable(hash);
    this.timing = {
      latency: this.latency,
      hangAfter: config.policy.hangAfter,
      writeHangAfter: config.policy.writeHangAfter,
      attemptTimeout: config.policy.attemptTimeout,
    };
    this.members = config.members.map((member) => this.makeMember(member));
  }

  /** The PIN of now; undefined when nobody logs in. */
  get pin(): SecretRef | undefined {
    return this.pins.current;
  }

  /** A member that is not among the others yet. */
  makeMember(config: MemberConfig): Member {
    return new Member(config, this.port, this.timing, (moved, from, reason) => {
      this.emit({ type: 'member', member: moved.name, from, to: moved.state.name, reason });
      this.changed.fire();
    });
  }

  /** The configuration has changed. */
  setPolicy(policy: Policy): void {
    this.policy = policy;
    const { hangAfter, writeHangAfter, attemptTimeout } = policy;
    Object.assign(this.timing, { hangAfter, writeHangAfter, attemptTimeout });
  }

  /** Why a member is to be out of service; undefined for one that is wanted. */
  orderFor(member: Member): string | undefined {
    if (member.role.removedFor !== undefined) return member.role.removedFor;
    const { config, serial } = member;
    const { isBeingAdded } = member.role;
    if (config.drained) return 'it is configured as drained';
    if (serial === undefined) return undefined;
    if (!isBeingAdded && !this.ledger.isMember(serial)) return 'its token is not one of the group';
    return this.ledger.isDrained(serial) ? 'an operator has drained it' : undefined;
  }

  /** What fingerprints are salted with: the same for all processes of the group, other for every group. */
  get salt(): Uint8Array {
    const { record } = this.ledger;
    this.#salt ??=
      record === undefined
        ? this.port.sha256(Buffer.from(`pkcs11-ha fingerprint\0${this.serial}`))
        : fromHex(record.salt);
    return this.#salt;
  }

  #salt: Uint8Array | undefined;
  #time: number = 0;

  /** Takes in a group record: members may have come, gone, or been told to rest. */
  adopt(record: GroupRecord): void {
    if (this.ledger.record === undefined) this.#salt = undefined;
    const before = this.ledger.record?.revision;
    this.observeClock(record.time ?? 0);
    if (!this.ledger.adopt(record)) return;
    if (before !== undefined && !this.isBeingCreated)
      this.emit({ type: 'membership', revision: record.revision, members: record.members.map(({ name }) => name) });
    for (const member of this.members) {
      member.ordersChanged.fire();
      member.suspicion.fire();
    }
    this.changed.fire();
  }

  /** Takes in the alias records of members. */
  learn(records: readonly RecordsFound[]): void {
    // Only all of them together know which aliases are there no more.
    const isWhole = records.length >= this.members.filter(({ isActive }) => isActive).length;
    if (isWhole) this.objects.learnAliases(this.ledger.learn(records));
    this.learnSome(records);
    if (isWhole) this.ledger.aliasesReadAt = this.port.now();
  }

  /** The same from members that may not have all of them. */
  learnSome(records: readonly RecordsFound[]): void {
    this.learnNames(records);
    for (const { changes } of records) for (const { record } of changes) this.notice(record);
  }

  /** The same, but for what others have missed. */
  learnNames(records: readonly RecordsFound[]): void {
    this.objects.learnAliases(this.ledger.learnMore(records));
    for (const { group, pins, done } of records) {
      for (const { record } of done) this.missed.learnDone(record);
      this.pins.notice(pins);
      if (group !== undefined && group.record.id === this.ledger.record?.id) this.adopt(group.record);
    }
  }

  /** What a member has in writing of changes that others have missed. */
  learnMissed({ serial }: Member, { changes, done }: RecordsFound): void {
    if (changes.length > 0 || done.length > 0) this.hasTraces = true;
    for (const { record } of done) this.missed.learnDone(record);
    if (serial === undefined) return;
    for (const { record } of changes) if (record.kind === 'journal') this.missed.note(record, [serial]);
  }

  /** The serials of the members that have still not got a change. */
  missing(record: ChangeRecord): readonly string[] {
    return record.missed.filter((serial) => this.ledger.isMember(serial) && !this.missed.isDone(record, serial));
  }

  /** The serials of the members that serve, but for one. */
  servingBut(member: Member): ReadonlySet<string> {
    const serving = this.members.filter((other) => other !== member && other.isServing);
    return new Set(serving.flatMap(({ serial }) => serial ?? []));
  }

  /** A journal entry that names a member which serves: another process has noted that it missed something. */
  notice(record: ChangeRecord, tries = 1): void {
    if (record.kind !== 'journal' || this.changes.has(record.operation)) return;
    for (const member of this.members) {
      const { serial, connection } = member;
      if (
        serial === undefined ||
        !this.missing(record).includes(serial) ||
        (member.recovery.failedChanges.get(record.operation) ?? 0) >= tries
      )
        continue;
      if (!member.isServing || connection === undefined) continue;
      member.recovery.require();
      member.suspect(connection, 'it has missed a change');
    }
  }

  /** Whether what is known of the records is old enough to be read again with the next find. */
  get readsRecords(): boolean {
    const { record, aliasesReadAt } = this.ledger;
    return record !== undefined && this.port.now() - aliasesReadAt > this.policy.freshness;
  }

  /** A hybrid logical clock: the wall's milliseconds with a counter, never the same twice. */
  nextTimestamp(): number {
    this.#time = Math.max(this.#time + 1, this.port.wallNow() * 1024);
    return this.#time;
  }

  /** Another host's clock may be ahead: what happens here from now on happens later than what is known. */
  observeClock(time: number): void {
    if (Number.isFinite(time)) this.#time = Math.max(this.#time, time);
  }

  oweReversal(entry: ChangeRecord): void {
    this.owedReversals.set(entry.operation, entry);
  }

  /** Goes on without whoever started it. */
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

  /** Whether the application may know of an object. */
  isVisible({ description }: VirtualObject): boolean {
    return this.isLoggedIn || !description.private;
  }

  emit(event: GroupEvent): void {
    this.port.emit(event);
  }

  noteReplicaStatus(member: Member, object: VirtualObject, replicaStatus: ReplicaStatus): void {
    const before = object.replicaStatus.get(member.name);
    object.replicaStatus.set(member.name, replicaStatus);
    if (before === replicaStatus) return;
    if (replicaStatus === 'misaligned') this.emit({ type: 'misaligned', member: member.name, object: object.summary });
    if (replicaStatus === 'absent') this.emit({ type: 'missing', member: member.name, object: object.summary });
  }

  /** How often members have changed their states, all in all. */
  get moves(): number {
    return this.members.reduce((sum, { moves }) => sum + moves, 0);
  }

  /** Where the members are, for errors: `hsm1 is active, hsm2 is down (the host was ended by SIGKILL)`. */
  describeMembers(): string {
    return this.members
      .map(({ name, state }) => `${name} is ${state.name}${reasonOf(state) === '' ? '' : ` (${reasonOf(state)})`}`)
      .join(', ');
  }

  /** Whether no member can come back by itself: all are down for reasons that only an operator can mend. */
  get isHopeless(): boolean {
    return this.members.every(
      ({ state }) => state.name === 'drained' || (state.name === 'down' && state.retryAt === Number.POSITIVE_INFINITY),
    );
  }
}
