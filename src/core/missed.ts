/** Who misses a change, and who has it in writing. */
interface Entry {
  readonly missing: Set<string>;
  readonly holders: Set<string>;
}

/**
 * What this process knows of changes that members have missed, by their tokens' serials: without it a member that
 * returns while those that could tell it are away would pass for one that is in step.
 */
export class Missed {
  readonly #entries = new Map<string, Entry>();

  /** The change of that operation is noted on `holders` for those that have not got it. */
  note(operation: string, missing: readonly string[], holders: readonly string[]): void {
    const entry = this.#entries.get(operation) ?? { missing: new Set(), holders: new Set() };
    for (const serial of missing) entry.missing.add(serial);
    for (const serial of holders) entry.holders.add(serial);
    this.#entries.set(operation, entry);
  }

  /** A member has got it, or never needs it. */
  settle(operation: string, serial: string): void {
    const entry = this.#entries.get(operation);
    entry?.missing.delete(serial);
    if (entry?.missing.size === 0) this.#entries.delete(operation);
  }

  /**
   * How many changes a member misses that none of `present` can tell it. Of those that one of them could, and did
   * not have in writing any more, somebody else has told it.
   */
  untold(serial: string, present: ReadonlySet<string>): number {
    let count = 0;
    for (const [operation, { missing, holders }] of [...this.#entries]) {
      if (!missing.has(serial)) continue;
      if ([...holders].some((holder) => present.has(holder))) this.settle(operation, serial);
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

  /** How many changes a member misses, as far as this process knows. */
  count(serial: string): number {
    return [...this.#entries.values()].filter(({ missing }) => missing.has(serial)).length;
  }
}
