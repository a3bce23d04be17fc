import { FOREVER, type Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { isOutdated } from '../recovery/recovery.js';

/** Shortest interval between comparisons of a member's group record with the newest one (ms); twice that at most. */
const COMPARE_INTERVAL = 300;
/** Multiple of `freshness` after which a group's record is read again if no call has read it. */
const SCOUT_MULTIPLE = 5;

/** Watch over one member's copy of the group's record, and over what other processes write to that record. */
export class RecordScout {
  readonly #group: Group;
  readonly #member: Member;
  readonly #connection: Connection;
  /** Time of the next comparison (ms of the port's clock). */
  #comparesAt: number = 0;

  constructor(group: Group, member: Member, connection: Connection) {
    this.#group = group;
    this.#member = member;
    this.#connection = connection;
  }

  /** True if the group's record must be read again now, by this member: the first active one without a suspicion reads for all. */
  get isReadDue(): boolean {
    return this.#group.port.now() >= this.#readsAt();
  }

  /** Time of the next read or comparison (ms of the port's clock). */
  get nextAt(): number {
    const comparesAt = this.#comparesAt > this.#group.port.now() ? this.#comparesAt : FOREVER;
    return Math.min(comparesAt, this.#readsAt());
  }

  #readsAt(): number {
    const { ledger, isBeingCreated, members, recordReadAt, policy } = this.#group;
    // A suspect is examined first: nothing is read of it, so that it would be due for ever.
    const first = members.find(({ isActive, suspectedFor }) => isActive && suspectedFor === undefined);
    const isScout = ledger.record !== undefined && !isBeingCreated && first === this.#member;
    return isScout ? recordReadAt + policy.freshness * SCOUT_MULTIPLE : FOREVER;
  }

  /** True if another member's record is newer than this member's, and a comparison is due. */
  get isBehind(): boolean {
    const { ledger, port, isBeingCreated } = this.#group;
    if (isBeingCreated || ledger.record === undefined || this.#member.recovery.revision >= ledger.record.revision)
      return false;
    return port.now() >= this.#comparesAt;
  }

  /** Reads the member's record again; if it is still older, suspects the member, which reads it on a fresh host. */
  *compare(): Task<void> {
    const { port, policy, members } = this.#group;
    const member = this.#member;
    if (!(yield* isOutdated(this.#group, member, port.now() + policy.hangAfter))) return;
    // Members change hosts one after the other: this one waits while another serving member is not active.
    const isSpared = members.every((other) => other === member || !other.isServing || other.isActive);
    this.#comparesAt = port.now() + COMPARE_INTERVAL * (1 + port.random());
    if (!isSpared || this.#connection.end !== undefined) return;
    member.recovery.require();
    member.suspectedFor ??= 'the member has an older group record';
  }
}
