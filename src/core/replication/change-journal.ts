import type { Task } from '../base/task.js';
import { runTogether } from '../base/waiting.js';
import type { MemberJobEnd } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { MemberJob } from '../jobs/member-job.js';
import type { ChangeRecord } from '../records/record.js';
import { writingRecords } from './record-job.js';

/** Returns the serials of the group's members that are not among those that have a change. */
export function missedBy({ ledger }: Group, done: readonly Member[]): readonly string[] {
  const serials = ledger.record?.members.map(({ serial }) => serial) ?? [];
  return serials.filter((serial) => !done.some((member) => member.serial === serial));
}

/** Change whose journal is written. */
interface JournaledChange {
  readonly group: Group;
  readonly functionName: string;
  /** Time by which the entries are written (ms of the port's clock). */
  readonly cleanupBy: number;
  run(member: Member, memberJob: MemberJob, deadline: number): Task<MemberJobEnd>;
}

/** Writes a journal entry of a change on members; returns those that took it. */
export function* writeJournal(
  change: JournaledChange,
  members: readonly Member[],
  record: ChangeRecord,
): Task<readonly Member[]> {
  const until = change.cleanupBy;
  const memberJob = writingRecords([record], change.functionName);
  const ends = yield* runTogether(
    change.group,
    members.map((member) => change.run(member, memberJob, until)),
  );
  const holders = members.filter((_member, index) => ends[index]?.kind === 'done');
  const serials = holders.flatMap(({ serial }) => serial ?? []);
  // An entry that no member holds is known to this process alone: the caller then takes the change back.
  if (serials.length > 0) change.group.noteMissed(record, serials);
  return holders;
}
