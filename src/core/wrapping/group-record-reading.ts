import type { Task } from '../base/task.js';
import { joinOrStart, race, runTogether, waitUntil } from '../base/waiting.js';
import { isReachable, runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { MemberJob } from '../jobs/member-job.js';
import { findGroupByLabel, foundIn, recordsIn } from '../records/ledger.js';

/** Multiple of `hangAfter` for which a member may take to answer a search for the record, or one job of its writing. */
export const READ_MULTIPLE = 2;

/** Reads the group record on a member, and no other record. */
export const findGroupRecord: MemberJob = {
  function: 'C_FindObjects',
  objects: [],
  isReading: true,
  job: () => ({ steps: [findGroupByLabel] }),
};

/** Returns true if the member may hold the group record; a member that joins gets it when it returns. */
export function mayHoldRecord(member: Member): boolean {
  if (!isReachable(member) || member.serial === undefined) return false;
  return member.role.isBeingAdded || member.state.name !== 'joining';
}

/** Reads a member's group record and adopts it if it is newer. `none`: the token has no record of this group. */
export function* learnRecord(group: Group, member: Member, deadline: number): Task<'read' | 'none' | 'unread'> {
  const { record } = group.ledger;
  const until = Math.min(deadline, group.port.now() + group.policy.hangAfter * READ_MULTIPLE);
  const end = yield* runOnMember(group, member, findGroupRecord, until);
  if (end.kind !== 'done') return 'unread';
  const { group: found, refused } = recordsIn(group.ledger.trust, foundIn(end.reply, 0));
  const own = found?.record;
  group.invalidRecords.note(member, 'refused', refused);
  const isOurs = own !== undefined && own.id === record?.id;
  member.recovery.noteRevision(isOurs ? own.revision : undefined);
  if (isOurs) group.adopt(own);
  return isOurs ? 'read' : 'none';
}

/** Reads the group record on all members that can be reached, so that the next decision is based on the newest one. */
export function* learnLatest(group: Group, deadline: number): Task<void> {
  const readable = group.members.filter((member) => mayHoldRecord(member));
  yield* runTogether(
    group,
    readable.map((member) => learnRecord(group, member, deadline)),
  );
}

/** Refreshes the record before objects are changed, then waits until no active member is suspected any more. */
export function* refreshForChange(group: Group, deadline: number): Task<void> {
  yield* refreshRecord(group, deadline);
  const isDoubted = ({ isActive, suspectedFor }: Member): boolean => isActive && suspectedFor !== undefined;
  yield* waitUntil(group.port, [group.changed], () => !group.members.some(isDoubted), deadline);
}

/**
 * Reads the group record anew unless it was read just now, since other processes may have changed it. With an old
 * record a process would wrap keys for members that have left.
 */
export function* refreshRecord(group: Group, deadline: number): Task<void> {
  const { port, policy, ledger } = group;
  if (ledger.record === undefined) return;
  const active = group.members.filter(({ isActive, suspectedFor }) => isActive && suspectedFor === undefined);
  if (active.length === 0 || port.now() - group.recordReadAt < policy.freshness) return;
  group.refreshing = joinOrStart(group.refreshing, () => port.start(readRecordOf(group, active, deadline)));
  yield* race([group.refreshing], deadline);
}

/** Reads the record on all of the members: one may have left the group, and a host may see others' writes late. */
function* readRecordOf(group: Group, members: readonly Member[], deadline: number): Task<void> {
  const { port, policy } = group;
  const startedAt = port.now();
  group.recordReadAt = startedAt;
  const learnt = yield* runTogether(
    group,
    members.map((member) => learnRecord(group, member, deadline)),
  );
  // If no member could be read, the next caller may try again at once.
  if (!learnt.includes('read')) group.recordReadAt = startedAt - policy.freshness;
  // If no member has the record any more, all may have left the group: only a fresh host can tell.
  if (learnt.every((each) => each === 'none'))
    for (const member of members) member.requireRecovery('the group record is no longer on the token');
}
