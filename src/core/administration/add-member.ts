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
import { refreshTokens } from '../joining/token-refresh.js';
import { recordsAt } from '../records/ledger.js';
import type { GroupRecord } from '../records/record.js';
import { makeTransport } from '../wrapping/domain-key.js';
import { learnLatest } from '../wrapping/group-record-reading.js';
import { checkMaySign } from '../wrapping/group-record-signature.js';
import { removeOwn, wipeObjects } from '../wrapping/removal.js';
import { checkStorage } from '../wrapping/storage-check.js';
import { proveTransport } from '../wrapping/transport-proof.js';
import {
  ADMINISTRATION_POLL,
  objectsBeyond,
  recordOf,
  renewDomainKey,
  resealAndRetire,
  retireLater,
  runClaimed,
} from './membership.js';

interface AddOptions {
  /** Treatment of records of another group on the token: `remove` removes those records and their keys. */
  readonly existing?: 'remove' | undefined;
}

/**
 * Makes a token a member: makes its transport key and a new domain key for the group, copies all keys to the token, and
 * waits until the member serves. After an interruption the same call goes on.
 */
export function* addMember(group: Group, config: MemberConfig, options: AddOptions, deadline: number): Task<void> {
  recordOf(group);
  yield* learnLatest(group, deadline);
  checkMaySign(group);
  const known = group.members.find(({ name, role }) => name === config.name && role.removedFor === undefined);
  if (known !== undefined && group.ledger.record?.members.some(({ serial }) => serial === known.serial)) {
    yield* awaitServing(group, known, deadline);
    return;
  }
  if (known !== undefined) {
    // A configured member waits, drained, until its token is one of the group's.
    removeFromList(known, 'the token is being added to the group');
    while (group.members.includes(known) && group.port.now() < deadline)
      yield* race([group.changed], Math.min(deadline, group.port.now() + ADMINISTRATION_POLL));
  }
  const member = addToList(group, config, true);
  try {
    yield* runClaimed(group, deadline, () => admit(group, member, options, deadline));
  } catch (error) {
    if (member.role.isBeingAdded && !group.ledger.isMember(member.serial ?? ''))
      removeFromList(member, 'the token could not be added to the group');
    throw error;
  }
  yield* awaitServing(group, member, deadline);
}

function* admit(group: Group, member: Member, { existing }: AddOptions, deadline: number): Task<void> {
  yield* awaitPresence(group, member, deadline);
  const serial = member.serial ?? '';
  const record = recordOf(group);
  if (record.members.some((note) => note.serial === serial)) {
    // An earlier call has written the record; the member goes on from there.
    member.role.endAdding();
    member.ordersChanged.fire();
    return;
  }
  const namesake = record.members.find(({ name }) => name === member.name);
  if (namesake !== undefined)
    refuse(CKR.actionProhibited, `the group already has a member ${member.name} (serial ${namesake.serial})`);
  yield* checkBelonging(group, member, record, existing, deadline);
  const scans = !(yield* checkStorage(group, member, deadline));
  const note = yield* makeTransport(group, member, group.port.randomBytes(8), deadline);
  const challenger = group.members.find(({ isActive }) => isActive) ?? member;
  yield* proveTransport(group, challenger, member, note, deadline);
  yield* renewDomainKey(
    group,
    (now) => ({
      members: [...now.members, note],
      filling: [...(now.filling ?? []), serial],
      ...(scans ? { scansKeyRecords: true } : {}),
    }),
    deadline,
  );
  member.ordersChanged.fire();
  yield* resealAndRetire(group, deadline);
  retireLater(group);
}

/** Waits until the member's token was found and the login was made. */
function* awaitPresence(group: Group, member: Member, deadline: number): Task<void> {
  while (member.serial === undefined || !isReachable(member)) {
    const { state } = member;
    if (state.name === 'down') refuse(CKR.deviceRemoved, `${member.name} cannot be reached: ${reasonOf(state)}`);
    if (group.port.now() >= deadline) refuse(CKR.deviceRemoved, `${member.name} did not answer before the deadline`);
    yield* race([group.changed, member.ordersChanged], Math.min(deadline, group.port.now() + ADMINISTRATION_POLL));
  }
}

/**
 * Returns the member if its host can be reached, or else a visitor: a member on the same token that joins for this one
 * task, and that the caller removes from the list. Undefined if the token cannot be reached.
 */
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
    // Remove the visitor also when the caller was cancelled meanwhile.
    if (!isHandedOver) removeFromList(visitor, 'the token could not be reached');
  }
}

function* awaitServing(group: Group, member: Member, deadline: number): Task<void> {
  while (!member.isServing) {
    const { state } = member;
    if (state.name === 'down' && state.retryAt === FOREVER)
      refuse(CKR.deviceRemoved, `${member.name} is a member but does not serve: ${reasonOf(state)}`);
    if (group.port.now() >= deadline) {
      const why = reasonOf(state) === '' ? state.name : `${state.name} (${reasonOf(state)})`;
      refuse(CKR.deviceRemoved, `${member.name} is a member but does not serve yet: it is ${why}`);
    }
    yield* race([group.changed], deadline);
  }
}

/**
 * Throws if the token has records of another group or objects that the group lacks, unless `existing` is `remove`.
 * Removes the group's own records and keys that an earlier call left.
 */
function* checkBelonging(
  group: Group,
  member: Member,
  record: GroupRecord,
  existing: AddOptions['existing'],
  deadline: number,
): Task<void> {
  const found = recordsAt(group.ledger.trust, yield* runOnMemberOrThrow(group, member, readingRecords, deadline), 0);
  if (found.newer) refuse(CKR.actionProhibited, `a later version of pkcs11-ha has written records on ${member.name}`);
  const own = found.group?.record;
  const isOther = (own !== undefined && own.id !== record.id) || found.refused > 0;
  if (isOther && existing !== 'remove') {
    const other = own === undefined ? 'another group' : `the group ${own.label}`;
    refuse(CKR.actionProhibited, `${member.name} belongs to ${other}; existing: 'remove' removes its records and keys`);
  }
  yield* checkObjects(group, member, existing, deadline);
  yield* removeOwn(group, member, deadline);
}

/** Throws, or wipes the token, if it has objects that the group lacks: the group may have destroyed those objects. */
function* checkObjects(group: Group, member: Member, existing: AddOptions['existing'], deadline: number): Task<void> {
  const source = group.members.find(({ isActive }) => isActive);
  if (source !== undefined) yield* refreshTokens(group, [source]);
  const foreign = yield* objectsBeyond(member, source);
  if (foreign === undefined) refuse(CKR.deviceRemoved, `${member.name} could not be compared with the other members`);
  if (foreign.length === 0) return;
  if (existing !== 'remove') {
    refuse(
      CKR.actionProhibited,
      `${member.name} holds ${foreign.length} objects that the group does not have; existing: 'remove' removes all its objects`,
    );
  }
  yield* wipeObjects(group, member, deadline);
}
