import { proofsIn } from '../objects/note.js';
import { areOfOneKey } from '../objects/object.js';
import type { ChangeRecord } from './record.js';

/** Returns true if a change is about the keys of another one. A successor under the same handle has other proofs. */
function areOfSameKey(record: ChangeRecord, other: ChangeRecord): boolean {
  return record.notes.every(({ handle, proofs }) =>
    other.notes.some((note) => note.handle === handle && areOfOneKey(proofsIn(note.proofs), proofsIn(proofs))),
  );
}

/** Changes that are known to have happened while some members could not be reached. */
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

  /** Returns the changes of an object, in no particular order. */
  about(handle: number): readonly ChangeRecord[] {
    return this.#byHandle.get(handle) ?? [];
  }

  /**
   * Returns the part of a change that still has to be made; undefined if there is none. A destroy stays whole.
   * A creation is void if a later call destroyed the object. A set is void if a call destroyed the object after its
   * last creation (Rule 16). Of other sets, the attributes stay that no later call has set.
   */
  leftOf(record: ChangeRecord): ChangeRecord | undefined {
    const [first] = record.notes;
    if (record.what === 'destroy' || first === undefined) return record;
    const others = this.about(first.handle).filter(
      (other) => other.operation !== record.operation && areOfSameKey(record, other),
    );
    const createdAt = Math.max(0, ...others.filter(({ what }) => what === 'create').map(({ time }) => time));
    const isDestroyed = others.some(
      ({ what, undoes, time }) =>
        what === 'destroy' && undoes !== true && time > (record.what === 'create' ? record.time : createdAt),
    );
    if (isDestroyed) return undefined;
    if (record.what === 'create') return record;
    const later = others.filter(({ what, time }) => what === 'set' && time > record.time);
    const changes = record.changes.filter(
      ([type]) => !later.some((set) => set.changes.some(([other]) => other === type)),
    );
    return changes.length === 0 ? undefined : { ...record, changes };
  }

  /** Returns true if a later call has created the object anew, and the member has that creation. */
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
