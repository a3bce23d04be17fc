import { CKR } from '../../spec/codes.js';
import { optional, step } from '../../spec/job.js';
import { refuse, TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { race, sleepUntil } from '../base/waiting.js';
import { isReachable, readingRecords, runOnMemberOrThrow } from '../call/member-job-run.js';
import type { MemberConfig } from '../configuration/configuration.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { addToList, removeFromList } from '../health/member-list.js';
import { refreshTokens } from '../joining/token-refresh.js';
import { recordsAt } from '../records/ledger.js';
import { learnLatest } from '../wrapping/group-record-reading.js';
import { checkMaySign } from '../wrapping/group-record-signature.js';
import { removeOwn, wipeObjects } from '../wrapping/removal.js';
import { visit } from './add-member.js';
import {
  ADMINISTRATION_POLL,
  checkNotAllDrained,
  checkNotLastActive,
  objectsBeyond,
  recordOf,
  renewDomainKey,
  resealAndRetire,
  retireLater,
  runClaimed,
} from './membership.js';

const UNREACHED = 'the token could not be reached';
/** Maximum number of journal entries that one job destroys. */
const BATCH = 64;

/** Options of `removeMember`. */
interface RemoveOptions {
  /** True if the objects of applications are removed from the token too. */
  readonly wipe: boolean;
}

/** Result of `removeMember`. */
export interface RemovalReport {
  readonly member: string;
  /** False if the group's records and keys are still on the token. */
  readonly cleaned: boolean;
  /** Number of objects that were removed from the token. */
  readonly removed: number;
  /** Reason for a token that is not clean; otherwise empty. */
  readonly reason: string;
}

/** Removes a member from the group for good. If its token cannot be reached, the objects on that token stay there. */
export function* removeMember(
  group: Group,
  name: string,
  { wipe }: RemoveOptions,
  deadline: number,
): Task<RemovalReport> {
  recordOf(group);
  yield* learnLatest(group, deadline);
  const record = recordOf(group);
  const member = group.members.find((each) => each.name === name);
  const serial = member?.serial ?? record.members.find((note) => note.name === name)?.serial;
  if (member === undefined && serial === undefined) refuse(CKR.argumentsBad, `the group has no member ${name}`);
  checkNotLastActive(group, member, name);
  if (serial !== undefined && record.members.some((note) => note.serial === serial)) checkMaySign(group);
  if (member !== undefined) {
    member.role.keepHost();
    member.role.endAdding();
  }
  try {
    if (wipe && member !== undefined) {
      yield* refreshTokens(group, servingIn(group));
      yield* checkNothingOnlyThere(group, member);
    }
    if (serial !== undefined && record.members.some((note) => note.serial === serial))
      yield* excludeFromRecord(group, name, serial, deadline);
    const cleaning = yield* cleanToken(group, member, wipe, deadline);
    yield* refreshTokens(group, servingIn(group));
    if (serial !== undefined) yield* forgetMissed(group, serial, deadline);
    yield* resealAndRetire(group, deadline);
    retireLater(group);
    return { member: name, ...cleaning };
  } finally {
    if (member !== undefined) {
      member.role.releaseHost();
      if (serial !== undefined && !group.ledger.isMember(serial)) {
        removeFromList(member, 'the member was removed from the group');
        group.port.start(awaitReturn(group, member.config, serial));
      }
    }
  }
}

/** Writes a group record without the member, and a domain key that the member does not get. */
function* excludeFromRecord(group: Group, name: string, serial: string, deadline: number): Task<void> {
  const without = (serials: readonly string[] = []): readonly string[] => serials.filter((each) => each !== serial);
  const renewal = (): Task<void> =>
    renewDomainKey(
      group,
      ({ members, filling, drained }) => {
        const rest = members.filter((note) => note.serial !== serial);
        checkNotAllDrained(name, rest, drained ?? []);
        return { members: rest, filling: without(filling), drained: without(drained) };
      },
      deadline,
    );
  yield* runClaimed(group, deadline, renewal);
  // Until other processes have read the new record, they may still write new objects on the member.
  yield* sleepUntil(group.port.now() + group.policy.freshness);
}

/** Removes the group's records and keys, and with `wipe` all objects, from the token of a member that leaves. */
function* cleanToken(
  group: Group,
  member: Member | undefined,
  wipe: boolean,
  deadline: number,
): Task<Pick<RemovalReport, 'cleaned' | 'removed' | 'reason'>> {
  const leaving = member === undefined ? undefined : yield* visit(group, member, deadline);
  if (leaving === undefined) return { cleaned: false, removed: 0, reason: UNREACHED };
  let removed = 0;
  try {
    yield* awaitRest(group, leaving, deadline);
    if (wipe) removed += yield* wipeObjects(group, leaving, deadline);
    removed += yield* removeOwn(group, leaving, deadline);
    return { cleaned: true, removed, reason: '' };
  } catch (error) {
    // The report tells the error: the token has left the group in any case.
    if (!(error instanceof TokenError)) throw error;
    const isUnreached = error.code === CKR.deviceRemoved || !isReachable(leaving);
    return { cleaned: false, removed, reason: isUnreached ? UNREACHED : error.message };
  } finally {
    // A member whose earlier removal was interrupted is on the list as a visitor.
    if (leaving !== member) removeFromList(leaving, 'the member was removed from the group');
  }
}

function servingIn({ members }: Group): readonly Member[] {
  return members.filter(({ isServing }) => isServing);
}

/** Waits until another process makes the token a member again; then adds the member with its former configuration. */
function* awaitReturn(group: Group, config: MemberConfig, serial: string): Task<void> {
  while (!group.ledger.isMember(serial)) yield* race([group.changed]);
  const isThere = group.members.some(({ name, role }) => name === config.name && role.removedFor === undefined);
  if (!isThere) addToList(group, config);
}

/** Throws if the member that leaves has objects that no other member has: a wipe would lose them. */
function* checkNothingOnlyThere(group: Group, member: Member): Task<void> {
  if (!member.isServing) return;
  const other = group.members.find((each) => each !== member && each.isActive);
  const only = yield* objectsBeyond(member, other);
  if (only === undefined) refuse(CKR.deviceRemoved, `${member.name} could not be compared with the other members`);
  if (only.length > 0) {
    refuse(
      CKR.actionProhibited,
      `${member.name} holds ${only.length} objects that ${other?.name} does not have: synchronize first, or remove ${member.name} without wipe`,
    );
  }
}

/** Waits until a member serves no more and has finished its running jobs. */
function* awaitRest(group: Group, member: Member, deadline: number): Task<void> {
  const until = Math.min(deadline, group.port.now() + group.policy.hangAfter);
  while (member.isServing || ((member.connection?.load ?? 0) > 0 && group.port.now() < until)) {
    if (group.port.now() >= deadline) return;
    yield* race([group.changed], group.port.now() + ADMINISTRATION_POLL);
  }
}

/** Destroys the journal entries that only the removed member has missed. */
function* forgetMissed(group: Group, serial: string, deadline: number): Task<void> {
  for (const holder of group.members) {
    if (!holder.isServing || !isReachable(holder)) continue;
    const { changes } = recordsAt(
      group.ledger.trust,
      yield* runOnMemberOrThrow(group, holder, readingRecords, deadline),
      0,
    );
    const done = changes.filter(
      ({ record }) => record.kind === 'journal' && record.missed.every((missed) => missed === serial),
    );
    while (done.length > 0) {
      const steps = done.splice(0, BATCH).map(({ handle }) => optional(step('C_DestroyObject', handle)));
      yield* runOnMemberOrThrow(
        group,
        holder,
        { function: 'C_DestroyObject', objects: [], job: () => ({ steps }) },
        deadline,
      );
    }
    for (const { record } of changes) group.missed.settle(record, serial);
  }
}
