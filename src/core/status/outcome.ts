import type { Task } from '../base/task.js';
import { readingRecords, runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import { isFailure } from '../group/job-outcome.js';
import type { Outcome } from '../group/outcomes.js';
import { foundIn, recordsIn } from '../records/ledger.js';
import { surveyKeyRecords } from '../replicas/survey.js';
import { recordedOutcome } from '../replication/outcome-record.js';

/**
 * Tells what became of a change, given by its operation: of any process, as far as this process remembers it or the
 * members' records tell. `unknown` also while the change is under way, or if no record tells of it any more.
 */
export function* outcomeOf(group: Group, operation: string, deadline: number): Task<Outcome> {
  if (group.changes.has(operation)) return 'unknown';
  const known = group.outcomes.of(operation);
  if (known !== undefined && known !== 'unknown') return known;
  let isOpen = false;
  for (const member of group.members) {
    if (!member.isServing) continue;
    const end = yield* runOnMember(group, member, readingRecords, deadline);
    if (end.kind !== 'done') continue;
    for (const { record } of recordsIn(group.ledger.trust, foundIn(end.reply, 0)).changes) {
      if (record.operation !== operation) continue;
      if (record.kind === 'journal') return record.undoes === true ? 'not done' : 'done';
      isOpen = true;
    }
  }
  const told = yield* recordedOutcome(group, operation, deadline);
  if (told !== undefined) return told;
  // An intent without a journal entry is decided by whoever recovers the member.
  return !isOpen && (yield* isRecorded(group, operation)) ? 'done' : 'unknown';
}

/** Returns true if a key record on a serving member names the change as the one that made its key. */
function* isRecorded({ members }: Group, operation: string): Task<boolean> {
  for (const { connection, isServing } of members) {
    if (!isServing || connection === undefined) continue;
    const records = yield* surveyKeyRecords(connection);
    if (isFailure(records)) continue;
    return [...records.values()].some((record) => record.operation === operation);
  }
  return false;
}
