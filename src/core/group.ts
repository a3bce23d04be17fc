import type { SecretRef } from '../spec/job.js';
import type { GroupConfig, Policy } from './configuration.js';
import type { GroupEvent } from './event.js';
import { HedgeBudget } from './hedge.js';
import { LatencyTable } from './latency.js';
import { LoginGate } from './login.js';
import { type GroupTiming, Member } from './member.js';
import { ObjectTable, type Standing, type VirtualObject } from './object.js';
import type { Effort } from './outcome.js';
import type { Port } from './port.js';
import { reasonOf } from './state.js';
import { type Running, Signal } from './task.js';

/** The members that act as one virtual slot, and what they know in common. */
export class Group {
  readonly label: string;
  readonly serial: string;
  readonly policy: Policy;
  readonly members: readonly Member[];
  readonly objects: ObjectTable;
  readonly latency: LatencyTable = new LatencyTable();
  readonly hedges: HedgeBudget = new HedgeBudget();
  readonly logins: LoginGate = new LoginGate();
  readonly timing: GroupTiming;
  /** Fires when a member changes its state. */
  readonly changed: Signal = new Signal();
  /** Fingerprints being taken, by object. */
  readonly referencing: Map<VirtualObject, Effort> = new Map<VirtualObject, Effort>();
  /** The last enumeration of all objects, for handles that this process has not met (ms of the port's clock). */
  enumeratedAt: number = Number.NEGATIVE_INFINITY;
  enumerating: Running<void> | undefined;
  /** The quarantine's turn: the last who asked for it. */
  quarantine: Running<unknown> | undefined;
  readonly counters = { calls: 0, failovers: 0, hedged: 0, quarantined: 0 };
  turn: number = 0;

  constructor(
    config: GroupConfig,
    readonly port: Port,
    /** The PIN; undefined when nobody logs in. */
    readonly pin: SecretRef | undefined,
  ) {
    const hash = (bytes: Uint8Array): Uint8Array => port.sha256(bytes);
    this.label = config.label;
    this.serial =
      config.serial ??
      `HA${Buffer.from(hash(Buffer.from(config.label)))
        .toString('hex')
        .slice(0, 14)
        .toUpperCase()}`;
    this.policy = config.policy;
    this.objects = new ObjectTable(hash);
    this.timing = {
      latency: this.latency,
      hangAfter: config.policy.hangAfter,
      writeHangAfter: config.policy.writeHangAfter,
      attemptTimeout: config.policy.attemptTimeout,
    };
    this.members = config.members.map(
      (member) =>
        new Member(member, port, this.timing, (moved, from, reason) => {
          this.emit({ type: 'member', member: moved.name, from, to: moved.state.name, reason });
          this.changed.fire();
        }),
    );
  }

  /** What fingerprints are salted with: the same for all processes of the group, other for every group. */
  get salt(): Uint8Array {
    this.#salt ??= this.port.sha256(Buffer.from(`pkcs11-ha fingerprint\0${this.serial}`));
    return this.#salt;
  }

  #salt: Uint8Array | undefined;

  emit(event: GroupEvent): void {
    this.port.emit(event);
  }

  noteStanding(member: Member, object: VirtualObject, standing: Standing): void {
    const before = object.standings.get(member.name);
    object.standings.set(member.name, standing);
    if (before === standing) return;
    if (standing === 'misaligned') this.emit({ type: 'misaligned', member: member.name, object: object.summary });
    if (standing === 'absent') this.emit({ type: 'missing', member: member.name, object: object.summary });
  }

  /** How often members have changed their states, all in all. */
  get moves(): number {
    return this.members.reduce((sum, { moves }) => sum + moves, 0);
  }

  /** Where the members are, for errors: `hsm1 is active, hsm2 is down (the host was ended by SIGKILL)`. */
  get whereabouts(): string {
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
