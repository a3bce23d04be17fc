import type { RecordsEvent } from '../base/event.js';

/**
 * Numbers of values on a member's token that are ignored: groupwide records and key records that do not have the form
 * of records, and group records without a valid signature.
 */
interface Counts {
  groupwide: number;
  keys: number;
  refused: number;
  /** Number of records that were read of more; 0 if all were read. */
  cut: number;
}

/** Values on tokens that are no records of the group (Rules 18 and 19), by the member's name. */
export class InvalidRecords {
  readonly #byMember = new Map<string, Counts>();
  readonly #emit: (event: RecordsEvent) => void;

  constructor(emit: (event: RecordsEvent) => void) {
    this.#emit = emit;
  }

  /**
   * Notes the number of such records of a kind on a member, and emits an event if that number is new. Without `isWhole`
   * only some records were read, and a smaller number proves nothing.
   */
  note({ name }: { readonly name: string }, kind: keyof Counts, count: number, isWhole = true): void {
    const counts = this.#byMember.get(name) ?? { groupwide: 0, keys: 0, refused: 0, cut: 0 };
    if (isWhole ? counts[kind] === count : counts[kind] >= count) return;
    this.#byMember.set(name, counts);
    counts[kind] = count;
    const told = { cut: tooMany, refused: unsigned, groupwide: malformed, keys: malformed }[kind];
    const all = told === malformed ? counts.groupwide + counts.keys : count;
    if (all > 0) this.#emit({ type: 'records', member: name, problem: told(name, all) });
  }
}

function tooMany(member: string, count: number): string {
  return `${member} has more than ${count} records, which are not all read: run \`pkcs11-ha synchronize\`, and recover members that are away, so that records are removed`;
}

function malformed(member: string, count: number): string {
  if (count === 1) return `1 record on ${member} does not have the form of a record and is ignored`;
  return `${count} records on ${member} do not have the form of records and are ignored`;
}

function unsigned(member: string, count: number): string {
  if (count === 1) return `1 group record on ${member} is not signed with the administration key and is ignored`;
  return `${count} group records on ${member} are not signed with the administration key and are ignored`;
}
