import { CKR } from '../../spec/codes.js';
import { rejoinAfter } from '../base/backoff.js';
import { refuse } from '../base/error.js';
import { reasonOf } from '../base/state.js';
import { FOREVER, type Running, type Task } from '../base/task.js';
import { awaitResult, race, waitUntil } from '../base/waiting.js';
import { isReachable } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { removeFromList } from '../health/member-list.js';
import type { GroupRecord } from '../records/record.js';
import { publish } from '../wrapping/group-record-publication.js';
import { learnLatest } from '../wrapping/group-record-reading.js';
import { visit } from './add-member.js';
import { ADMINISTRATION_POLL, checkNotAllDrained, checkNotLastActive, recordOf, runClaimed } from './membership.js';

/** Takes a member out of service, or back into service, for all processes that use the group. */
export function* setDrained(group: Group, name: string, drained: boolean, deadline: number): Task<void> {
  recordOf(group);
  // Reread the record first: another process may have changed it.
  yield* learnLatest(group, deadline);
  const record = recordOf(group);
  const serial =
    group.members.find((member) => member.name === name)?.serial ??
    record.members.find((note) => note.name === name)?.serial;
  if (serial === undefined || !record.members.some((note) => note.serial === serial))
    refuse(CKR.argumentsBad, `the group has no member ${name}`);
  const member = group.members.find((each) => each.serial === serial);
  if (!drained && member?.config.drained === true)
    refuse(CKR.actionProhibited, `${name} is configured as drained: change the configuration`);
  const before = record.drained ?? [];
  if (before.includes(serial) !== drained) {
    if (drained) checkNotLastActive(group, member, name);
    const change = (now: GroupRecord): Partial<GroupRecord> => {
      const others = (now.drained ?? []).filter((each) => each !== serial);
      const wanted = drained ? [...others, serial] : others;
      // Checked in the record that is written: two processes draining one member each could drain the whole group.
      if (drained) checkNotAllDrained(name, now.members, wanted);
      return { drained: wanted };
    };
    yield* publishAnywhere(group, member, change, deadline);
  }
  if (member !== undefined) yield* awaitDrained(group, member, name, drained, deadline);
}

/** Waits until a member has ended its host, or serves again. */
function* awaitDrained(group: Group, member: Member, name: string, drained: boolean, deadline: number): Task<void> {
  const isDone = (): boolean =>
    drained
      ? member.state.name === 'drained' && (member.connection?.end !== undefined || member.connection === undefined)
      : member.isServing;
  while (!isDone()) {
    const { state } = member;
    if (!drained && state.name === 'down' && state.retryAt === FOREVER)
      refuse(CKR.deviceRemoved, `${name} cannot come back: ${reasonOf(state)}`);
    if (group.port.now() >= deadline) {
      const why = reasonOf(state) === '' ? '' : ` (${reasonOf(state)})`;
      refuse(CKR.deviceRemoved, `${name} is still ${state.name}${why}`);
    }
    yield* race([group.changed], Math.min(deadline, group.port.now() + ADMINISTRATION_POLL));
  }
}

/**
 * Publishes a change of the group's record. While no member serves, only the drained member itself can take the record:
 * a visitor joins on its token for that, with repeated tries for as long as a call may take.
 */
function* publishAnywhere(
  group: Group,
  member: Member | undefined,
  change: (record: GroupRecord) => Partial<GroupRecord>,
  deadline: number,
): Task<void> {
  const { port, policy } = group;
  const visitUntil = Math.min(deadline, port.now() + policy.deadline);
  let visitor: Member | undefined;
  let visits = 0;
  let visitAt = port.now();
  const wantsVisit = (): boolean =>
    member !== undefined &&
    visitor === undefined &&
    port.now() < visitUntil &&
    !group.members.some(({ isServing }) => isServing);
  let publishing: Running<void> | undefined;
  try {
    while (publishing?.completed !== true) {
      if (member !== undefined && wantsVisit() && port.now() >= visitAt) {
        visitor = yield* visitDrained(group, member, visitUntil);
        visits += 1;
        visitAt = port.now() + rejoinAfter(visits + 1, port.random());
      } else if (publishing === undefined && !wantsVisit()) {
        publishing = port.start(publishClaimed(group, change, deadline));
      } else {
        const signals = publishing === undefined ? [group.changed] : [publishing, group.changed];
        yield* race(signals, wantsVisit() ? Math.min(visitAt, visitUntil) : FOREVER);
      }
    }
  } finally {
    publishing?.cancel(undefined);
    if (visitor !== undefined && visitor !== member) removeFromList(visitor, 'the group record was written');
  }
  yield* awaitResult(publishing);
}

/** Publishes a change once this process has the claim; from then on within twice the deadline of a call. */
function* publishClaimed(
  group: Group,
  change: (record: GroupRecord) => Partial<GroupRecord>,
  deadline: number,
): Task<void> {
  const { port, policy } = group;
  yield* runClaimed(group, deadline, () =>
    publish(group, change, Math.min(deadline, port.now() + 2 * policy.deadline)),
  );
}

/** Visits a drained member; first waits until the host of a member that was just drained has ended. */
function* visitDrained(group: Group, member: Member, deadline: number): Task<Member | undefined> {
  while (isReachable(member) && group.port.now() < deadline)
    yield* race([group.changed], group.port.now() + ADMINISTRATION_POLL);
  return yield* visit(group, member, deadline);
}

/** Takes a member back into service when no other member serves; first waits until a member has told the record. */
export function* undrainAlone(group: Group, name: string, deadline: number): Task<void> {
  const isComing = (): boolean =>
    group.members.some(({ state }) => state.name === 'joining' || state.name === 'recovering');
  yield* waitUntil(group.port, [group.changed], () => !isComing(), deadline);
  if (group.ledger.record === undefined)
    refuse(CKR.deviceRemoved, `no member could be asked for the group record: ${group.describeMembers()}`);
  yield* setDrained(group, name, false, deadline);
}
