import type { RecordsEvent } from '../base/event.js';

/** Numbers of values on a member's token that do not have the form of records. */
interface Counts {
  groupwide: number;
  keys: number;
}

/** Values that do not have the form of records (Rule 18), by the member's name. */
export class InvalidRecords {
  readonly #byMember = new Map<string, Counts>();
  readonly #emit: (event: RecordsEvent) => void;

  constructor(emit: (event: RecordsEvent) => void) {
    this.#emit = emit;
  }

  /**
   * Notes the number of invalid records of a kind on a member, and emits an event if that number is new. Without
   * `isWhole` only some records were read, and a smaller number proves nothing.
   */
  note({ name }: { readonly name: string }, kind: keyof Counts, count: number, isWhole = true): void {
    const counts = this.#byMember.get(name) ?? { groupwide: 0, keys: 0 };
    if (isWhole ? counts[kind] === count : counts[kind] >= count) return;
    this.#byMember.set(name, counts);
    counts[kind] = count;
    const all = counts.groupwide + counts.keys;
    if (all > 0) this.#emit({ type: 'records', member: name, problem: problemOf(name, all) });
  }
}

function problemOf(member: string, count: number): string {
  if (count === 1) return `1 record on ${member} does not have the form of a record and is ignored`;
  return `${count} records on ${member} do not have the form of records and are ignored`;
}
