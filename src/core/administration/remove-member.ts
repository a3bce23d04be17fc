import { CKR } from '../../spec/codes.js';
import { step } from '../../spec/job.js';
import { refuse, TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { race, sleepUntil } from '../base/waiting.js';
import { isReachable, readingRecords, runOnMemberOrThrow } from '../call/member-job-run.js';
import type { MemberConfig } from '../configuration/configuration.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { addToList, removeFromList } from '../health/member-list.js';
import { foundIn, recordsIn } from '../records/ledger.js';
import { refreshTokens } from '../recovery/token-refresh.js';
import { learnLatest } from '../wrapping/membership-record.js';
import { removeOwn, wipeObjects } from '../wrapping/removal.js';
import { visit } from './add-member.js';
import {
  checkSomebodyServes,
  objectsBeyond,
  recordOf,
  renewDomainKey,
  resealAndRetire,
  retireLater,
  runClaimed,
} from './membership.js';

const UNREACHED = 'it could not be reached';

/** How often it is looked whether something has come about (ms). */
const LOOK_AGAIN = 20;

export interface RemoveOptions {
  /** Whether the applications' objects are taken off the token too. */
  readonly wipe: boolean;
}

export interface RemovalReport {
  readonly member: string;
  /** False where the token could not be reached: the group's records and keys are still on it. */
  readonly cleaned: boolean;
  /** How many objects were taken off it. */
  readonly removed: number;
  /** Why it is not clean; empty where it is. */
  readonly reason: string;
}

/** Takes a member out of the group for good. It may be away; then what is on it stays there. */
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
  if (member === undefined && serial === undefined) refuse(CKR.argumentsBad, `no member has the name ${name}`);
  if (!group.members.some((other) => other !== member && other.isActive))
    refuse(CKR.actionProhibited, `${name} is the last member that serves: ${group.describeMembers()}`);
  if (member !== undefined) {
    member.role.keepHost();
    member.role.endAdding();
  }
  try {
    if (wipe && member !== undefined) {
      yield* refreshTokens(group, servingIn(group));
      yield* checkNothingOnlyThere(group, member);
    }
    if (serial !== undefined && record.members.some((note) => note.serial === serial)) {
      const without = (serials: readonly string[] = []): readonly string[] => serials.filter((each) => each !== serial);
      const renewal = (): Task<void> =>
        renewDomainKey(
          group,
          ({ members, filling, drained }) => {
            const rest = members.filter((note) => note.serial !== serial);
            checkSomebodyServes(name, rest, drained ?? []);
            return { members: rest, filling: without(filling), drained: without(drained) };
          },
          deadline,
        );
      yield* runClaimed(group, deadline, renewal);
      // Until then other processes may still write there what they make.
      const until = group.port.now() + group.policy.freshness;
      yield* sleepUntil(until);
    }
    let cleaned = false;
    let removed = 0;
    let reason = UNREACHED;
    const leaving = member === undefined ? undefined : yield* visit(group, member, deadline);
    if (leaving !== undefined) {
      try {
        yield* awaitRest(group, leaving, deadline);
        if (wipe) removed += yield* wipeObjects(group, leaving, deadline);
        removed += yield* removeOwn(group, leaving, deadline);
        cleaned = true;
        reason = '';
      } catch (error) {
        // It is no member any more, whatever it says to that.
        if (!(error instanceof TokenError)) throw error;
        reason = error.code === CKR.deviceRemoved || !isReachable(leaving) ? UNREACHED : error.message;
      } finally {
        // One that has left before, in a try that was interrupted, was visited once more.
        if (leaving !== member) removeFromList(leaving, 'it was removed from the group');
      }
    }
    yield* refreshTokens(group, servingIn(group));
    if (serial !== undefined) yield* forgetMissed(group, serial, deadline);
    yield* resealAndRetire(group, deadline);
    retireLater(group);
    return { member: name, cleaned, removed, reason };
  } finally {
    if (member !== undefined) {
      member.role.releaseHost();
      if (serial !== undefined && !group.ledger.isMember(serial)) {
        removeFromList(member, 'it was removed from the group');
        group.port.start(awaitReturn(group, member.config, serial));
      }
    }
  }
}

function servingIn({ members }: Group): readonly Member[] {
  return members.filter(({ isServing }) => isServing);
}

/** Another process may make it a member again: then it is one here too, as it was configured. */
function* awaitReturn(group: Group, config: MemberConfig, serial: string): Task<void> {
  while (!group.ledger.isMember(serial)) yield* race([group.changed]);
  const isThere = group.members.some(({ name, role }) => name === config.name && role.removedFor === undefined);
  if (!isThere) addToList(group, config);
}

/** Nothing is wiped that only the member that leaves has. */
function* checkNothingOnlyThere(group: Group, member: Member): Task<void> {
  if (!member.isServing) return;
  const other = group.members.find((each) => each !== member && each.isActive);
  const only = yield* objectsBeyond(member, other);
  if (only === undefined) refuse(CKR.deviceRemoved, `${member.name} could not be compared with the others`);
  if (only.length > 0) {
    refuse(
      CKR.actionProhibited,
      `${member.name} holds ${only.length} objects that ${other?.name} does not have: synchronize, or remove it without wipe`,
    );
  }
}

/** Waits until a member serves no more and has finished what was running. */
function* awaitRest(group: Group, member: Member, deadline: number): Task<void> {
  const until = Math.min(deadline, group.port.now() + group.policy.hangAfter);
  while (member.isServing || ((member.connection?.load ?? 0) > 0 && group.port.now() < until)) {
    if (group.port.now() >= deadline) return;
    yield* race([group.changed], group.port.now() + LOOK_AGAIN);
  }
}

/** Nobody waits for a member any more that has left: what it has missed need not stand anywhere. */
function* forgetMissed(group: Group, serial: string, deadline: number): Task<void> {
  for (const holder of group.members) {
    if (!holder.isServing || !isReachable(holder)) continue;
    const { changes } = recordsIn(foundIn(yield* runOnMemberOrThrow(group, holder, readingRecords, deadline), 0));
    const done = changes.filter(
      ({ record }) => record.kind === 'journal' && record.missed.every((missed) => missed === serial),
    );
    while (done.length > 0) {
      const steps = done.splice(0, 64).map(({ handle }) => step('C_DestroyObject', handle));
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
