import { proofsIn } from '../objects/note.js';
import { areOfOneKey } from '../objects/object.js';
import type { ChangeRecord } from './record.js';

/** Whether two changes are about the same key: a successor of the same name has other proofs. */
function areOfSameKey(one: ChangeRecord, other: ChangeRecord): boolean {
  return one.notes.every(({ handle, proofs }) =>
    other.notes.some((note) => note.handle === handle && areOfOneKey(proofsIn(note.proofs), proofsIn(proofs))),
  );
}

/** What is known to have happened while some members could not be reached. */
export class History {
  readonly #byHandle = new Map<number, ChangeRecord[]>();

  constructor(records: readonly ChangeRecord[] = []) {
    for (const record of records) {
      for (const { handle } of record.notes) {
        const known = this.#byHandle.get(handle);
        if (known === undefined) this.#byHandle.set(handle, [record]);
        else known.push(record);
      }
    }
  }

  /** The changes of an object, in no order. */
  about(handle: number): readonly ChangeRecord[] {
    return this.#byHandle.get(handle) ?? [];
  }

  /**
   * What is left to be done of a change, given what else has happened: nothing of an object that was destroyed,
   * whoever did that when (Rule 16), and of attributes only what was not set again later. Undefined where it is void.
   */
  leftOf(record: ChangeRecord): ChangeRecord | undefined {
    const [first] = record.notes;
    if (record.what === 'destroy' || first === undefined) return record;
    const others = this.about(first.handle).filter(
      (other) => other.operation !== record.operation && areOfSameKey(record, other),
    );
    const made = Math.max(0, ...others.filter(({ what }) => what === 'create').map(({ time }) => time));
    const isDestroyed = others.some(
      ({ what, undoes, time }) =>
        what === 'destroy' && undoes !== true && time > (record.what === 'create' ? record.time : made),
    );
    if (isDestroyed) return undefined;
    if (record.what === 'create') return record;
    const later = others.filter(({ what, time }) => what === 'set' && time > record.time);
    const changes = record.changes.filter(
      ([type]) => !later.some((set) => set.changes.some(([other]) => other === type)),
    );
    return changes.length === 0 ? undefined : { ...record, changes };
  }

  /** Whether a member has taken part in a later creation of what a call was to create. */
  isMadeAgain({ operation, notes, time }: ChangeRecord, serial: string): boolean {
    return notes.some(({ handle }) =>
      this.about(handle).some(
        (other) =>
          other.what === 'create' &&
          other.undoes !== true &&
          other.operation !== operation &&
          other.time > time &&
          !other.missed.includes(serial),
      ),
    );
  }
}
