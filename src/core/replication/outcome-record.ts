import { NO_MAXIMUM } from '../../spec/calls.js';
import { optional, resultOf, step } from '../../spec/job.js';
import type { Running, Task } from '../base/task.js';
import { awaitCompletion } from '../base/waiting.js';
import { runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import { stepLimit } from '../group/hang-limits.js';
import type { Member } from '../group/member.js';
import { JobBuilder } from '../jobs/job-builder.js';
import { findingJob, type MemberJob } from '../jobs/member-job.js';
import { FIRST_FORMAT, type OutcomeRecord } from '../records/record.js';
import { readRecord } from '../records/record-schema.js';
import { outcomeTemplate, recordTypes } from '../records/record-template.js';

/** Time for which outcome records are kept at least (ms). */
const KEPT_FOR = 24 * 3_600_000;
/** Number of outcome records that are kept on a member: of more, the oldest go first. */
const MOST_KEPT = 10_000;
/** Maximum number of old outcome records that one job removes. */
const BATCH = 8;

/** Writes the outcome of a change that was told as unknown, as soon as the change has ended. */
export function* recordLateOutcome(group: Group, operation: string, change: Running<unknown>): Task<void> {
  yield* awaitCompletion(group.port, change);
  const outcome = group.outcomes.of(operation);
  if (outcome !== 'done' && outcome !== 'not done') return;
  const serving = group.members.filter(({ isServing }) => isServing);
  yield* recordOutcome(group, serving, operation, outcome === 'done');
}

/**
 * Writes an outcome record on members, so that any process can tell what became of the change (Rule 20). Former
 * versions do not know these records, so groups of record format 1 get none.
 */
export function* recordOutcome(
  group: Group,
  members: readonly Member[],
  operation: string,
  isDone: boolean,
): Task<void> {
  group.outcomes.note(operation, isDone ? 'done' : 'not done');
  if (group.ledger.format <= FIRST_FORMAT) return;
  const record: OutcomeRecord = { kind: 'outcome', operation, isDone, time: group.port.wallNow() };
  for (const member of members) yield* writeOn(group, member, record);
}

/** Returns the outcome of a change that a record on a serving member tells; undefined if none does. */
export function* recordedOutcome(
  group: Group,
  operation: string,
  deadline: number,
): Task<'done' | 'not done' | undefined> {
  for (const member of group.members) {
    if (!member.isServing) continue;
    const finding = findingJob(outcomeTemplate(operation), NO_MAXIMUM, recordTypes);
    const found = yield* runOnMember(group, member, finding, deadline);
    if (found.kind !== 'done') continue;
    for (const { attributes } of resultOf(found.reply, 0, 'X_Find')) {
      const record = outcomeIn(attributes[0]?.value);
      if (record?.operation === operation) return record.isDone ? 'done' : 'not done';
    }
  }
  return undefined;
}

/** Writes an outcome record on a member, and removes some of those that are too old. */
function* writeOn(group: Group, member: Member, record: OutcomeRecord): Task<void> {
  const { port, policy } = group;
  const limit = (): number => port.now() + stepLimit(policy);
  const found = yield* runOnMember(group, member, findingJob(outcomeTemplate(), NO_MAXIMUM, recordTypes), limit());
  if (found.kind !== 'done') return;
  const standing = resultOf(found.reply, 0, 'X_Find').flatMap(({ handle, attributes }) => {
    const each = outcomeIn(attributes[0]?.value);
    return each === undefined ? [] : [{ handle: new Uint8Array(handle), ...each }];
  });
  const isTold = standing.some(({ operation }) => operation === record.operation);
  const old = standing
    .sort((a, b) => b.time - a.time)
    .filter(({ time }, index) => index >= MOST_KEPT || time < record.time - KEPT_FOR);
  const builder = new JobBuilder();
  if (!isTold) builder.addRecord(record);
  for (const { handle } of old.slice(-BATCH)) builder.add(optional(step('C_DestroyObject', handle)));
  if (builder.steps.length === 0) return;
  const writing: MemberJob = {
    function: 'C_CreateObject',
    objects: [],
    login: found.login,
    job: () => ({ steps: builder.steps }),
  };
  yield* runOnMember(group, member, writing, limit());
}

function outcomeIn(value: Uint8Array | undefined): OutcomeRecord | undefined {
  const record = readRecord(value ?? new Uint8Array());
  return typeof record === 'object' && record.kind === 'outcome' ? record : undefined;
}
