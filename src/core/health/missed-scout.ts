import { holderOf } from '../group/claimed-work.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';

/** Interval between looks at the notes of other processes (ms). */
const LOOK_INTERVAL = 300;
/** Longest time for which a member serves in any case after a recovery (ms); at most as long as that one took. */
const LONGEST_REST = 2000;

/**
 * Watch over what other processes note: that the member lacks a change which they have confirmed. A process that does
 * not have the member in its configuration cannot bring it up to date itself.
 */
export class MissedScout {
  readonly #group: Group;
  readonly #member: Member;
  #looksAt: number;
  /** True if the last look found a new note: it counts if it still stands at the next one. */
  #isNoted = false;

  /** `recoveredIn` is the time that the member's last recovery took (ms). */
  constructor(group: Group, member: Member, recoveredIn: number) {
    this.#group = group;
    this.#member = member;
    this.#looksAt = group.port.now() + Math.max(LOOK_INTERVAL, Math.min(LONGEST_REST, recoveredIn));
  }

  /** Time of the next look (ms of the port's clock). */
  get nextAt(): number {
    return this.#looksAt;
  }

  /** Looks if it is time; returns true if the member lacks changes that no process is bringing to it. */
  get isBehind(): boolean {
    const { port, coordinator, ledger } = this.#group;
    const { serial, recovery } = this.#member;
    if (port.now() < this.#looksAt) return false;
    this.#looksAt = port.now() + LOOK_INTERVAL;
    if (ledger.record === undefined || serial === undefined) return false;
    const wasNoted = this.#isNoted;
    // Notes from before the last recovery count again once a member serves that was away then: it may know the changes.
    const mayHear = recovery.hasUnheard && recovery.failedChanges.size === 0 && this.#areAllServing();
    this.#isNoted =
      recovery.isNeeded || coordinator.missedBy(serial).some((note) => mayHear || !recovery.notes.includes(note));
    return this.#isNoted && wasNoted && holderOf(this.#group, `member ${serial}`) === undefined;
  }

  #areAllServing(): boolean {
    const { members, ledger } = this.#group;
    return (
      ledger.record?.members.every(({ serial }) =>
        members.some((member) => member.serial === serial && member.isServing),
      ) === true
    );
  }
}
