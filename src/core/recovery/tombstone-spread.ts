import type { Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { stepLimit } from '../group/hang-limits.js';
import { isFailure } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import type { KeyRecord } from '../objects/key-note.js';
import { objectOf, proofsIn } from '../objects/note.js';
import { areOfOneKey, type VirtualObject } from '../objects/object.js';
import type { ChangeRecord } from '../records/record.js';
import { type KeyRecordSurvey, surveyAllKeyRecords } from '../replicas/survey.js';
import { Removal } from './removal.js';

/**
 * Returns true if a member has the tombstone of a key, and no record that the key was given back. `time` is that of the
 * key's record on another member: a key that was restored after its destroy has a later one.
 */
export function isGoneOn(
  { live, gone }: Pick<KeyRecordSurvey, 'live' | 'gone'>,
  { handle, reference }: Pick<VirtualObject, 'handle' | 'reference'>,
  time: number,
): boolean {
  const tombstone = gone.get(handle);
  if (tombstone === undefined || live.has(handle) || tombstone.time <= time) return false;
  return areOfOneKey(proofsIn(tombstone.note.proofs), reference);
}

/**
 * Destroys on a member the keys that another member has tombstones of. A key goes only if it is proven to be the one
 * that was destroyed (Rule 28). Returns true if there was one.
 */
export function* destroyGone(group: Group, member: Member, target: Connection, other: Connection): Task<boolean> {
  const own = yield* surveyAllKeyRecords(target);
  const theirs = yield* surveyAllKeyRecords(other);
  if (isFailure(own) || isFailure(theirs)) return false;
  const removal = new Removal(group, () => group.port.now() + stepLimit(group.policy));
  let isAny = false;
  for (const record of own.live.values()) {
    const object = objectOf(record.note);
    if (!isGoneOn(theirs, object, record.time)) continue;
    isAny = true;
    if (yield* removal.remove(object, destroyOf(group, record), member))
      group.emit({ type: 'sync', member: member.name, what: 'caught up', objects: [object.summary] });
  }
  return isAny;
}

/** Returns the change that destroys a key, as its journal entry would tell it. */
export function destroyOf({ coordinator }: Group, { note, operation, time }: KeyRecord): ChangeRecord {
  const { writer } = coordinator;
  const unchanged = { changes: [], former: [], missed: [] };
  return {
    kind: 'journal',
    operation,
    what: 'destroy',
    notes: [note],
    ...unchanged,
    alone: false,
    writer,
    time,
    expires: 0,
  };
}
