import type { Attribute } from '../../spec/attribute.js';
import { resultOf } from '../../spec/job.js';
import { sameBytes } from '../base/bytes.js';
import type { Task } from '../base/task.js';
import { runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { attributesOf } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import type { History } from '../records/history.js';
import type { ChangeRecord } from '../records/record.js';
import { readKeyRecord } from '../replicas/key-record.js';
import { readingValues } from '../replication/attribute-change-job.js';

/**
 * Returns the attributes that a missed change still has to set on a member; undefined if the member could not be asked.
 * For another process the member may be in service, and have got newer values from a later call. So an attribute is left
 * as it is if neither this change nor an earlier one tells its value, and the member's key record is not older.
 */
export function* leftToSet(
  group: Group,
  record: ChangeRecord,
  history: History,
  object: VirtualObject,
  member: Member,
  deadline: number,
): Task<readonly Attribute[] | undefined> {
  const changes = attributesOf(record.changes);
  if (changes.length === 0) return changes;
  const end = yield* runOnMember(group, member, readingValues(object, changes), deadline);
  if (end.kind !== 'done') return undefined;
  const read = resultOf(end.reply, 0, 'C_GetAttributeValue');
  if (yield* hasOlderRecord(object, record, member)) return changes;
  const earlier = history.about(object.handle).filter(({ what, time }) => what === 'set' && time <= record.time);
  const known = [record, ...earlier].flatMap(({ changes: given, former }) => [
    ...attributesOf(given),
    ...attributesOf(former),
  ]);
  return changes.filter(({ type }, index) => {
    const value = read[index]?.presence === 'present' ? read[index]?.value : undefined;
    return value === undefined || known.some((each) => each.type === type && sameBytes(each.value, value));
  });
}

/** Returns true if a member's record of a key is from before a change: then no later call has changed the key there. */
function* hasOlderRecord({ handle }: VirtualObject, { time }: ChangeRecord, { connection }: Member): Task<boolean> {
  if (connection === undefined) return false;
  const kept = yield* readKeyRecord(connection, handle);
  return kept.kind === 'record' && kept.record !== undefined && kept.record.time < time;
}
