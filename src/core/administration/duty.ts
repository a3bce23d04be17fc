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
import { learnLatest, publish } from '../wrapping/membership-record.js';
import { visit } from './add-member.js';
import { checkSomebodyServes, recordOf, runClaimed } from './membership.js';

/** How often it is looked whether something has come about (ms). */
const LOOK_AGAIN = 20;

/** Takes a member out of service, or back into it, for all processes that use the group. */
export function* setDrained(group: Group, name: string, drained: boolean, deadline: number): Task<void> {
  recordOf(group);
  // Another process may have changed it just now.
  yield* learnLatest(group, deadline);
  const record = recordOf(group);
  const serial =
    group.members.find((member) => member.name === name)?.serial ??
    record.members.find((note) => note.name === name)?.serial;
  if (serial === undefined || !record.members.some((note) => note.serial === serial))
    refuse(CKR.argumentsBad, `no member of the group has the name ${name}`);
  const member = group.members.find((each) => each.serial === serial);
  if (!drained && member?.config.drained === true)
    refuse(CKR.actionProhibited, `${name} is configured as drained: change the configuration`);
  const before = record.drained ?? [];
  if (before.includes(serial) !== drained) {
    if (drained && !group.members.some((other) => other !== member && other.isActive))
      refuse(CKR.actionProhibited, `${name} is the last member that serves: ${group.describeMembers()}`);
    const change = (now: GroupRecord): Partial<GroupRecord> => {
      const others = (now.drained ?? []).filter((each) => each !== serial);
      const wanted = drained ? [...others, serial] : others;
      if (drained) checkSomebodyServes(name, now.members, wanted);
      return { drained: wanted };
    };
    yield* publishAnywhere(group, member, change, deadline);
  }
  if (member === undefined) return;
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
    yield* race([group.changed], Math.min(deadline, group.port.now() + LOOK_AGAIN));
  }
}

/**
 * Where nobody serves, or none does any more, the group's record can only be changed on the drained member itself: it
 * is visited for that, again and again for as long as a call may take.
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
        publishing = port.start(publishSoon(group, change, deadline));
      } else {
        const signals = publishing === undefined ? [group.changed] : [publishing, group.changed];
        yield* race(signals, wantsVisit() ? Math.min(visitAt, visitUntil) : FOREVER);
      }
    }
  } finally {
    publishing?.cancel(undefined);
    if (visitor !== undefined && visitor !== member) removeFromList(visitor, 'its visit is over');
  }
  yield* awaitResult(publishing);
}

/** As soon as its turn has come; then it takes no longer than calls do. */
function* publishSoon(
  group: Group,
  change: (record: GroupRecord) => Partial<GroupRecord>,
  deadline: number,
): Task<void> {
  const { port, policy } = group;
  yield* runClaimed(group, deadline, () =>
    publish(group, change, Math.min(deadline, port.now() + 2 * policy.deadline)),
  );
}

/** One that was drained just now has a host for a moment, which takes nothing new. */
function* visitDrained(group: Group, member: Member, deadline: number): Task<Member | undefined> {
  while (isReachable(member) && group.port.now() < deadline)
    yield* race([group.changed], group.port.now() + LOOK_AGAIN);
  return yield* visit(group, member, deadline);
}

/** The same where nobody serves: waits until what members there are have said what the group is. */
export function* undrainAlone(group: Group, name: string, deadline: number): Task<void> {
  const isComing = (): boolean =>
    group.members.some(({ state }) => state.name === 'joining' || state.name === 'recovering');
  yield* waitUntil(group.port, [group.changed], () => !isComing(), deadline);
  if (group.ledger.record === undefined)
    refuse(CKR.deviceRemoved, `no member has said what the group is: ${group.describeMembers()}`);
  yield* setDrained(group, name, false, deadline);
}

/** Has a member serve, or wait in reserve, in this process. */
export function assignRole(group: Group, name: string, duty: 'active' | 'standby'): void {
  const member = group.members.find((each) => each.name === name);
  if (member === undefined) refuse(CKR.argumentsBad, `no member has the name ${name}`);
  if (duty === 'standby' && !group.members.some((other) => other !== member && other.isActive))
    refuse(CKR.actionProhibited, `${name} is the last member that serves: ${group.describeMembers()}`);
  member.role.assign(duty);
  member.ordersChanged.fire();
  member.suspicion.fire();
}

/** Has a member that is away try to come back now, and waits until it has or cannot. */
export function* recoverMember(group: Group, name: string, deadline: number): Task<void> {
  const member = group.members.find((each) => each.name === name);
  if (member === undefined) refuse(CKR.argumentsBad, `no member has the name ${name}`);
  if (group.orderFor(member) !== undefined) refuse(CKR.actionProhibited, `${name}: ${group.orderFor(member)}`);
  if (member.isServing && member.state.name !== 'stale') return;
  member.recovery.retryNow();
  const before = member.moves;
  member.ordersChanged.fire();
  for (;;) {
    if (member.isServing) return;
    if (member.state.name === 'down' && member.moves > before)
      refuse(CKR.deviceRemoved, `${name} does not come back: ${reasonOf(member.state)}`);
    if (group.port.now() >= deadline) refuse(CKR.deviceRemoved, `${name} is still ${member.state.name}`);
    yield* race([group.changed], deadline);
  }
}
