import type { Task } from '../base/task.js';
import { isReachable, readingRecords, runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { type FoundRecord, type RecordsFound, recordsAt } from '../records/ledger.js';
import type { ChangeRecord } from '../records/record.js';
import { othersTakingPart } from './absence.js';

/** Interval between looks whether a change in doubt can be resolved (ms). */
export const DOUBT_POLL = 1000;

/** Reads a member's records; undefined if that fails. */
export function* recordsOn(group: Group, member: Member, deadline: number): Task<RecordsFound | undefined> {
  const end = yield* runOnMember(group, member, readingRecords, deadline);
  if (end.kind !== 'done') return undefined;
  const records = recordsAt(group.ledger.trust, end.reply, 0);
  group.invalidRecords.note(member, 'groupwide', records.invalid);
  for (const { record } of records.changes) group.observeClock(record.time);
  return records;
}

/** Returns true if no process works on an intent any more. If its writer may live, schedules another look. */
export function isAbandoned(group: Group, member: Member, { operation, writer, expires }: ChangeRecord): boolean {
  const recheckAfter = (after: number): false => {
    member.recovery.recheckIntents(group.port.now() + after);
    return false;
  };
  if (group.changes.has(operation)) return recheckAfter(group.policy.writeHangAfter);
  if (writer === group.coordinator.writer || group.coordinator.isWriterGone(writer) === true) return true;
  const left = expires - group.port.wallNow();
  return left <= 0 || recheckAfter(left);
}

/** Returns true if a member holds an intent that no process works on any more, and that can be resolved now. */
export function* hasAbandoned(group: Group, member: Member, deadline: number): Task<boolean> {
  const records = yield* recordsOn(group, member, deadline);
  const canBeHeard = (serial: string): boolean =>
    group.members.some((each) => each.serial === serial && each.isServing && isReachable(each));
  const isDue = ({ record }: FoundRecord<ChangeRecord>): boolean => {
    if (record.kind !== 'intent' || !isAbandoned(group, member, record)) return false;
    if (othersTakingPart(group, member, record).every(canBeHeard)) return true;
    member.recovery.recheckIntents(group.port.now() + DOUBT_POLL);
    return false;
  };
  return (records?.changes.filter(isDue).length ?? 0) > 0;
}
