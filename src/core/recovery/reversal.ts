import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { History } from '../records/history.js';

/** Returns true if a member other than the given one has yet to undo a change of an object, given by its handle. */
export function isUndoneElsewhere(group: Group, history: History, handle: number, { serial }: Member): boolean {
  const undone = [...group.owedReversals.values(), ...history.about(handle)].filter(
    ({ undoes, notes }) => undoes === true && notes.some((note) => note.handle === handle),
  );
  return undone.some((record) => group.missing(record).some((each) => each !== serial));
}
