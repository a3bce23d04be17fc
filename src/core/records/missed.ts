import { type ChangeRecord, changeIdOf, type DoneRecord } from './record.js';

/** Serials of the members that miss a change, and of those that hold a journal entry of it. */
interface MissedChange {
  readonly missing: Set<string>;
  readonly holders: Set<string>;
}

/**
 * Changes that members have missed, as far as this process knows. Without them, a member that returns while all holders
 * of the journal entries are away would pass for one in step.
 */
export class Missed {
  /** Missed changes, by their ids (see `changeIdOf`). */
  readonly #entries = new Map<string, MissedChange>();
  /** Ids of the changes that members have done records of, by serial. */
  readonly #done = new Map<string, Set<string>>();

  /** Notes that `holders` have a journal entry for the members that miss the change. */
  note(record: ChangeRecord, holders: readonly string[]): void {
    const changeId = changeIdOf(record);
    const missing = record.missed.filter((serial) => !this.isDone(record, serial));
    if (missing.length === 0) return;
    const entry = this.#entries.get(changeId) ?? { missing: new Set(), holders: new Set() };
    for (const serial of missing) entry.missing.add(serial);
    for (const serial of holders) entry.holders.add(serial);
    this.#entries.set(changeId, entry);
  }

  /** Notes that a member has a change, or no longer needs it. */
  settle(record: ChangeRecord, serial: string): void {
    this.#removeMissing(changeIdOf(record), serial);
  }

  /** Takes a done record. */
  learnDone({ serial, deeds }: DoneRecord): void {
    const known = this.#done.get(serial) ?? new Set();
    this.#done.set(serial, known);
    for (const changeId of deeds) {
      known.add(changeId);
      this.#removeMissing(changeId, serial);
    }
  }

  /**
   * Forgets changes that only members which have left the group could tell of: no other member will ever tell of them,
   * and the members that are left would stay stale for ever.
   */
  forgetLeft(isMember: (serial: string) => boolean): void {
    for (const [changeId, { missing, holders }] of [...this.#entries]) {
      for (const serials of [missing, holders])
        for (const serial of [...serials]) if (!isMember(serial)) serials.delete(serial);
      if (missing.size === 0 || holders.size === 0) this.#entries.delete(changeId);
    }
  }

  /** Forgets a member's done records before they are read again. */
  forgetDone(serial: string): void {
    this.#done.delete(serial);
  }

  /** Returns true if the member has a done record of the change. */
  isDone(record: ChangeRecord, serial: string): boolean {
    return this.#done.get(serial)?.has(changeIdOf(record)) === true;
  }

  /**
   * Returns the number of changes that a member misses and no `heard` member holds. Forgets the changes that such a
   * member holds, since the member has read that journal by now.
   */
  unreachableCount(serial: string, heard: ReadonlySet<string>): number {
    let count = 0;
    for (const [changeId, { missing, holders }] of [...this.#entries]) {
      if (!missing.has(serial)) continue;
      if ([...holders].some((holder) => heard.has(holder))) this.#removeMissing(changeId, serial);
      else count += 1;
    }
    return count;
  }

  /** Returns true if one of the `present` members holds a change that the member misses. */
  canTell(serial: string, present: ReadonlySet<string>): boolean {
    return [...this.#entries.values()].some(
      ({ missing, holders }) => missing.has(serial) && [...holders].some((holder) => present.has(holder)),
    );
  }

  /** Returns true if a member misses changes, and none of the `present` members holds any of them. */
  isOutOfReach(serial: string, present: ReadonlySet<string>): boolean {
    return this.count(serial) > 0 && !this.canTell(serial, present);
  }

  /** Returns the number of changes that a member misses, as far as this process knows. */
  count(serial: string): number {
    return [...this.#entries.values()].filter(({ missing }) => missing.has(serial)).length;
  }

  #removeMissing(changeId: string, serial: string): void {
    const entry = this.#entries.get(changeId);
    entry?.missing.delete(serial);
    if (entry?.missing.size === 0) this.#entries.delete(changeId);
  }
}
