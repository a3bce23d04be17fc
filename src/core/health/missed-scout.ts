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
  /** True if at the last look all members served, and the member lacked nothing that any of them knows. */
  #isHeard = false;

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
  look(): boolean {
    const { port, coordinator, ledger } = this.#group;
    const { serial, recovery } = this.#member;
    if (port.now() < this.#looksAt) return false;
    this.#looksAt = port.now() + LOOK_INTERVAL;
    if (ledger.record === undefined || serial === undefined) return false;
    const wasNoted = this.#isNoted;
    this.#forgetMadeGood(serial);
    this.#isNoted = recovery.isNeeded || coordinator.missedBy(serial).some((note) => !recovery.notes.includes(note));
    return this.#isNoted && wasNoted && holderOf(this.#group, `member ${serial}`) === undefined;
  }

  /**
   * Removes the notes from before the last recovery, if a member was away then and all serve now: what that one knows was
   * read when it joined, and the member lacks none of it. Without this the member would count as out of step for ever.
   */
  #forgetMadeGood(serial: string): void {
    const { coordinator, missed } = this.#group;
    const { recovery } = this.#member;
    const wasHeard = this.#isHeard;
    const isMadeGood = !recovery.isNeeded && recovery.failedChanges.size === 0 && missed.count(serial) === 0;
    this.#isHeard = recovery.hasUnheard && isMadeGood && this.#areAllServing();
    if (!this.#isHeard || !wasHeard) return;
    coordinator.forgetMissed(serial, recovery.notes);
    recovery.noteHeard(true);
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
