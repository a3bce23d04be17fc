import { CKR } from '../../spec/codes.js';
import { refuse } from '../base/error.js';
import { reasonOf } from '../base/state.js';
import { FOREVER, type Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import { isReachable, readingRecords, runOnMemberOrThrow } from '../call/member-job-run.js';
import type { MemberConfig } from '../configuration/configuration.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { addToList, removeFromList } from '../health/member-list.js';
import { foundIn, recordsIn } from '../records/ledger.js';
import type { GroupRecord } from '../records/record.js';
import { refreshTokens } from '../recovery/token-refresh.js';
import { makeTransport } from '../wrapping/domain-key.js';
import { learnLatest } from '../wrapping/membership-record.js';
import { removeOwn, wipeObjects } from '../wrapping/removal.js';
import { checkStorage } from '../wrapping/storage-check.js';
import { objectsBeyond, recordOf, renewDomainKey, resealAndRetire, retireLater, runClaimed } from './membership.js';

/** How often it is looked whether something has come about (ms). */
const LOOK_AGAIN = 20;

export interface AddOptions {
  /** What to do with records of another group on the token: `remove` takes them and their keys away. */
  readonly existing?: 'remove' | undefined;
}

/**
 * Makes a token a member: it gets a transport key, the group a new domain key, all keys are copied, and then it
 * serves. What was interrupted is gone on with by the same call.
 */
export function* addMember(group: Group, config: MemberConfig, options: AddOptions, deadline: number): Task<void> {
  recordOf(group);
  yield* learnLatest(group, deadline);
  const known = group.members.find(({ name, role }) => name === config.name && role.removedFor === undefined);
  if (known !== undefined && group.ledger.record?.members.some(({ serial }) => serial === known.serial)) {
    yield* awaitInService(group, known, deadline);
    return;
  }
  if (known !== undefined) {
    // It is configured already, and waits for being made a member.
    removeFromList(known, 'it is made a member');
    while (group.members.includes(known) && group.port.now() < deadline)
      yield* race([group.changed], Math.min(deadline, group.port.now() + LOOK_AGAIN));
  }
  const member = addToList(group, config, true);
  try {
    yield* runClaimed(group, deadline, () => admit(group, member, options, deadline));
  } catch (error) {
    if (member.role.isBeingAdded && !group.ledger.isMember(member.serial ?? ''))
      removeFromList(member, 'it could not be made a member');
    throw error;
  }
  yield* awaitInService(group, member, deadline);
}

function* admit(group: Group, member: Member, { existing }: AddOptions, deadline: number): Task<void> {
  yield* awaitPresence(group, member, deadline);
  const serial = member.serial ?? '';
  const record = recordOf(group);
  if (record.members.some((note) => note.serial === serial)) {
    // An earlier try has made it a member; it goes on from there.
    member.role.endAdding();
    member.ordersChanged.fire();
    return;
  }
  const namesake = record.members.find(({ name }) => name === member.name);
  if (namesake !== undefined)
    refuse(CKR.actionProhibited, `the group has another member of the name ${member.name}: ${namesake.serial}`);
  yield* checkBelonging(group, member, record, existing, deadline);
  yield* checkStorage(group, member, deadline);
  const note = yield* makeTransport(group, member, group.port.randomBytes(8), deadline);
  yield* renewDomainKey(
    group,
    (now) => ({ members: [...now.members, note], filling: [...(now.filling ?? []), serial] }),
    deadline,
  );
  member.ordersChanged.fire();
  yield* resealAndRetire(group, deadline);
  retireLater(group);
}

/** Waits until its token was found and the login made. */
function* awaitPresence(group: Group, member: Member, deadline: number): Task<void> {
  while (member.serial === undefined || !isReachable(member)) {
    const { state } = member;
    if (state.name === 'down') refuse(CKR.deviceRemoved, `${member.name} cannot be reached: ${reasonOf(state)}`);
    if (group.port.now() >= deadline) refuse(CKR.deviceRemoved, `${member.name} did not answer in time`);
    yield* race([group.changed, member.ordersChanged], Math.min(deadline, group.port.now() + LOOK_AGAIN));
  }
}

/** A member that can be asked: itself, or, where it has no host, one that comes for that only; the caller dismisses it. */
export function* visit(group: Group, member: Member, deadline: number): Task<Member | undefined> {
  if (isReachable(member)) return member;
  const visitor = addToList(group, member.config, true);
  let isHandedOver = false;
  try {
    yield* awaitPresence(group, visitor, Math.min(deadline, group.port.now() + group.policy.deadline));
    isHandedOver = true;
    return visitor;
  } catch {
    return undefined;
  } finally {
    // Whoever wanted it may have left meanwhile.
    if (!isHandedOver) removeFromList(visitor, 'it could not be reached');
  }
}

function* awaitInService(group: Group, member: Member, deadline: number): Task<void> {
  while (!member.isServing) {
    const { state } = member;
    if (state.name === 'down' && state.retryAt === FOREVER)
      refuse(CKR.deviceRemoved, `${member.name} is a member, but does not serve: ${reasonOf(state)}`);
    if (group.port.now() >= deadline) {
      const why = reasonOf(state) === '' ? state.name : `${state.name} (${reasonOf(state)})`;
      refuse(CKR.deviceRemoved, `${member.name} is a member, but did not come into service in time: it is ${why}`);
    }
    yield* race([group.changed], deadline);
  }
}

/** Records of another group are not taken away unasked; what an earlier try left of this one is. */
function* checkBelonging(
  group: Group,
  member: Member,
  record: GroupRecord,
  existing: AddOptions['existing'],
  deadline: number,
): Task<void> {
  const found = recordsIn(foundIn(yield* runOnMemberOrThrow(group, member, readingRecords, deadline), 0));
  if (found.newer) refuse(CKR.actionProhibited, `a later version has written records on ${member.name}`);
  const own = found.group?.record;
  if (own !== undefined && own.id !== record.id && existing !== 'remove') {
    refuse(
      CKR.actionProhibited,
      `${member.name} belongs to the group ${own.label}; existing: 'remove' takes its records and keys away`,
    );
  }
  yield* checkObjects(group, member, existing, deadline);
  yield* removeOwn(group, member, deadline);
}

/** Objects that the group does not have are not let in with a new member: it may have destroyed them. */
function* checkObjects(group: Group, member: Member, existing: AddOptions['existing'], deadline: number): Task<void> {
  const source = group.members.find(({ isActive }) => isActive);
  if (source !== undefined) yield* refreshTokens(group, [source]);
  const foreign = yield* objectsBeyond(member, source);
  if (foreign === undefined) refuse(CKR.deviceRemoved, `${member.name} could not be compared with the others`);
  if (foreign.length === 0) return;
  if (existing !== 'remove') {
    refuse(
      CKR.actionProhibited,
      `${member.name} holds ${foreign.length} objects that the group does not have; existing: 'remove' takes all its objects away`,
    );
  }
  yield* wipeObjects(group, member, deadline);
}
