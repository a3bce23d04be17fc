import { CKA } from '../../spec/codes.js';
import { type JobReply, optional, resultOf, type Step, step } from '../../spec/job.js';
import { CKR_OK } from '../../spec/verdict.js';
import type { Task } from '../base/task.js';
import { type MemberJobEnd, runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { findingJob, type Login, type MemberJob } from '../jobs/member-job.js';
import { newPosition, positionIn, positionLabel, positionTemplate } from '../records/position.js';

/** Maximum number of position records that are read: two processes may have made one each. */
const MOST_POSITIONS = 16;

/** Change whose member jobs note it as the member's latest. */
interface MarkedChange {
  readonly group: Group;
  /** Timestamp of the change; undefined if the change has no record on the tokens. */
  readonly time: number | undefined;
  run(member: Member, memberJob: MemberJob, deadline?: number): Task<MemberJobEnd>;
}

/**
 * Runs a member job of a change, which also writes the change's time to the member's position record. A member whose
 * position is older than that of another one lacks changes, or was put back to an earlier state.
 */
export function* runMarked(
  change: MarkedChange,
  member: Member,
  memberJob: MemberJob,
  deadline?: number,
): Task<MemberJobEnd> {
  const { group, time } = change;
  const id = group.ledger.record?.id;
  if (id === undefined || time === undefined) return yield* change.run(member, memberJob, deadline);
  let marking: readonly Step[] = [];
  const marked: MemberJob = {
    ...memberJob,
    job: (handles, location) => {
      const job = memberJob.job(handles, location);
      marking = markingSteps(id, member, time, job.steps.length);
      return { ...job, steps: [...job.steps, ...marking] };
    },
  };
  const end = yield* change.run(member, marked, deadline);
  if (end.kind !== 'done') return end;
  member.position.advance(time);
  if (!takeMark(member, end, marking.length > 1)) yield* change.run(member, replacingRecord(id, member), deadline);
  return end;
}

/** Returns the steps that write the position, of which the first has the index `at` in its job. */
function markingSteps(id: string, member: Member, time: number, at: number): readonly Step[] {
  const label = positionLabel(id, member.position.give(time));
  const handle = member.position.handleOn(member.connection);
  if (handle !== undefined) return [optional(step('C_SetAttributeValue', handle, [label]))];
  return [
    optional(step('X_Find', positionTemplate, 1, [])),
    optional(step('C_SetAttributeValue', { step: at }, [label])),
  ];
}

/**
 * Takes the results of the marking steps, the last ones of a job; `isSearched` if the first of them looked for the
 * record. Returns false if the position was not written.
 */
function takeMark(
  { position }: Member,
  { reply, login }: { readonly reply: JobReply; readonly login: Login },
  isSearched: boolean,
): boolean {
  const last = reply.results.length - 1;
  if (reply.results[last]?.code !== CKR_OK) {
    position.forgetHandle();
    return false;
  }
  const [found] = isSearched ? resultOf(reply, last - 1, 'X_Find') : [];
  if (found !== undefined) position.keepHandle(login.connection, login.epoch, new Uint8Array(found.handle));
  return true;
}

/** Returns the job that makes a new position record, for a member that has none, or whose labels cannot be changed. */
function replacingRecord(id: string, { position }: Member): MemberJob {
  const steps = [
    optional(step('X_Find', positionTemplate, 1, [])),
    optional(step('C_DestroyObject', { step: 0 })),
    step('C_CreateObject', newPosition(id, position.time ?? 0)),
  ];
  return { function: 'C_CreateObject', objects: [], job: () => ({ steps }) };
}

/** Reads a member's position: 0 without a record, undefined if it could not be read. */
export function* readPosition(group: Group, member: Member, deadline: number): Task<number | undefined> {
  const id = group.ledger.record?.id;
  if (id === undefined) return undefined;
  const finding = findingJob(positionTemplate, MOST_POSITIONS, [CKA.label]);
  const end = yield* runOnMember(group, member, finding, deadline);
  if (end.kind !== 'done') return undefined;
  const found = resultOf(end.reply, 0, 'X_Find');
  const [first] = found;
  if (first !== undefined)
    member.position.keepHandle(end.login.connection, end.login.epoch, new Uint8Array(first.handle));
  const time = Math.max(0, ...found.map(({ attributes: [label] }) => positionIn(label?.value, id) ?? 0));
  group.observeClock(time);
  return time;
}

/** Writes a position on a member that has come into step with others. */
export function* writePosition(group: Group, member: Member, time: number, deadline: number): Task<void> {
  const writing: MemberJob = { function: 'C_SetAttributeValue', objects: [], job: () => ({ steps: [] }) };
  const run = (each: Member, job: MemberJob): Task<MemberJobEnd> => runOnMember(group, each, job, deadline);
  if (time > 0) yield* runMarked({ group, time, run }, member, writing);
}
