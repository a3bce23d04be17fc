import { type ChangeRecord, changeIdOf, type DoneRecord } from './record.js';

/** Who misses a change, and who has it in writing. */
interface MissedChange {
  readonly missing: Set<string>;
  readonly holders: Set<string>;
}

/**
 * What this process knows of changes that members have missed, by their tokens' serials: without it a member that
 * returns while those that could tell it are away would pass for one that is in step.
 */
export class Missed {
  readonly #entries = new Map<string, MissedChange>();
  /** What members have in writing that they are done with, by serial. */
  readonly #done = new Map<string, Set<string>>();

  /** The change is noted on `holders` for those that have not got it. */
  note(record: ChangeRecord, holders: readonly string[]): void {
    const deed = changeIdOf(record);
    const missing = record.missed.filter((serial) => !this.isDone(record, serial));
    if (missing.length === 0) return;
    const entry = this.#entries.get(deed) ?? { missing: new Set(), holders: new Set() };
    for (const serial of missing) entry.missing.add(serial);
    for (const serial of holders) entry.holders.add(serial);
    this.#entries.set(deed, entry);
  }

  /** A member has got it, or never needs it. */
  settle(record: ChangeRecord, serial: string): void {
    this.#settle(changeIdOf(record), serial);
  }

  learnDone({ serial, deeds }: DoneRecord): void {
    const known = this.#done.get(serial) ?? new Set();
    this.#done.set(serial, known);
    for (const deed of deeds) {
      known.add(deed);
      this.#settle(deed, serial);
    }
  }

  /** What a member was done with is read again from it. */
  forgetDone(serial: string): void {
    this.#done.delete(serial);
  }

  isDone(record: ChangeRecord, serial: string): boolean {
    return this.#done.get(serial)?.has(changeIdOf(record)) === true;
  }

  /**
   * How many changes a member misses that none of those that it has `heard` could tell it. Of what one of them could,
   * and did not have in writing any more, somebody else has told it.
   */
  unreachableCount(serial: string, heard: ReadonlySet<string>): number {
    let count = 0;
    for (const [deed, { missing, holders }] of [...this.#entries]) {
      if (!missing.has(serial)) continue;
      if ([...holders].some((holder) => heard.has(holder))) this.#settle(deed, serial);
      else count += 1;
    }
    return count;
  }

  /** Whether any of `present` has something in writing that a member misses. */
  canTell(serial: string, present: ReadonlySet<string>): boolean {
    return [...this.#entries.values()].some(
      ({ missing, holders }) => missing.has(serial) && [...holders].some((holder) => present.has(holder)),
    );
  }

  /** Whether a member misses changes, and none of `present` can tell it any of them. */
  isOutOfReach(serial: string, present: ReadonlySet<string>): boolean {
    return this.count(serial) > 0 && !this.canTell(serial, present);
  }

  /** How many changes a member misses, as far as this process knows. */
  count(serial: string): number {
    return [...this.#entries.values()].filter(({ missing }) => missing.has(serial)).length;
  }

  #settle(deed: string, serial: string): void {
    const entry = this.#entries.get(deed);
    entry?.missing.delete(serial);
    if (entry?.missing.size === 0) this.#entries.delete(deed);
  }
}
