import { CKR } from '../../spec/codes.js';
import { refuse } from '../base/error.js';
import type { Task } from '../base/task.js';
import { sleepUntil } from '../base/waiting.js';
import { isReachable } from '../call/member-job-run.js';
import { holderOf, takeClaim, whileClaimed } from '../group/claimed-work.js';
import { awaitComing } from '../group/coming.js';
import type { Group } from '../group/group.js';
import { isFailure } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { fromHex, hex } from '../objects/note.js';
import type { DomainNote, GroupRecord, MemberNote } from '../records/record.js';
import { surveyMember } from '../replicas/survey.js';
import { installDomainKey } from '../wrapping/domain-installation.js';
import { generateDomainKey } from '../wrapping/domain-key.js';
import { publish } from '../wrapping/group-record-publication.js';
import { checkMaySign } from '../wrapping/group-record-signature.js';
import { removeOldDomains } from '../wrapping/removal.js';
import { reseal } from '../wrapping/resealing.js';

/** Polling interval for a claim, or for a member's state, during administration (ms). */
export const ADMINISTRATION_POLL = 20;

/** Longest time between tries to retire old domain keys (ms). */
const LONGEST_WAIT = 3_600_000;
/** Deadline for retiring old domain keys in the background (ms). */
const RETIRE_WITHIN = 60_000;

/** Multiple of `freshness` for which other processes may still use a domain key that was replaced. */
const GRACE_MULTIPLE = 10;

/** Runs a task when no other administration task of this process runs. */
export function runExclusively<T>(group: Group, task: Task<T>, deadline: number): Task<T> {
  return group.administrationMutex.runExclusive(task, deadline);
}

/**
 * Runs a task when no other process of this machine changes the membership. Between machines the later record wins, and
 * the other change is tried again.
 */
export function* runClaimed<T>(group: Group, deadline: number, task: () => Task<T>): Task<T> {
  recordOf(group);
  const claim = yield* takeClaim(group, 'membership', deadline);
  if (claim === undefined)
    refuse(CKR.actionProhibited, `${holderOf(group, 'membership') ?? 'another process'} is changing the membership`);
  try {
    return yield* whileClaimed(group, [claim], task());
  } finally {
    claim.release();
  }
}

/** Returns the group's record for a caller that is to change it; throws if this process may not change it. */
export function recordOf(group: Group): GroupRecord {
  const { ledger } = group;
  if (!group.isLoggedIn) refuse(CKR.userNotLoggedIn, 'log in before you change the group');
  if (ledger.isNewer)
    refuse(CKR.actionProhibited, 'a later version of pkcs11-ha has written records: this version does not write');
  if (ledger.record === undefined)
    refuse(CKR.functionNotSupported, 'the members have no group record yet: createGroup writes it');
  return ledger.record;
}

/** Returns the members of notes; waits for those on their way into service, and throws unless all of them serve. */
export function* servingMembersOf(
  group: Group,
  notes: readonly MemberNote[],
  deadline: number,
): Task<readonly Member[]> {
  const isConcerned = (member: Member): boolean => notes.some(({ serial }) => serial === member.serial);
  yield* awaitComing(group, group.members.filter(isConcerned), deadline);
  return notes.map(({ serial, name }) => {
    const member = group.members.find((each) => each.serial === serial);
    if (member === undefined || !(member.isActive || member.state.name === 'standby'))
      refuse(
        CKR.deviceRemoved,
        `${name} is not in service: try again when all members are (${group.describeMembers()})`,
      );
    return member;
  });
}

/** Throws if no other member is active. */
export function checkNotLastActive(group: Group, member: Member | undefined, name: string): void {
  if (!group.members.some((other) => other !== member && other.isActive))
    refuse(CKR.actionProhibited, `${name} is the last member that serves: ${group.describeMembers()}`);
}

/** Throws if every member of a record would be drained. */
export function checkNotAllDrained(name: string, members: GroupRecord['members'], drained: readonly string[]): void {
  if (members.every(({ serial }) => drained.includes(serial)))
    refuse(CKR.actionProhibited, `${name} is the last member that is not drained`);
}

/** Returns the labels of the objects that a member has and another lacks; undefined if one of them does not answer. */
export function* objectsBeyond(member: Member, other: Member | undefined): Task<readonly string[] | undefined> {
  if (member.connection === undefined || other?.connection === undefined) return undefined;
  const own = yield* surveyMember(member.connection);
  const theirs = yield* surveyMember(other.connection);
  if (isFailure(own) || isFailure(theirs)) return undefined;
  return own.objects
    .filter(({ identity }) => theirs.of(identity).length === 0)
    .map(({ description }) => Buffer.from(description.label).toString());
}

/** Generates a domain key for the members of a changed record, installs the key, and writes the record. */
export function* renewDomainKey(
  group: Group,
  change: (record: GroupRecord) => Partial<GroupRecord> & Pick<GroupRecord, 'members'>,
  deadline: number,
): Task<void> {
  checkMaySign(group);
  const record = recordOf(group);
  const { members } = change(record);
  const present = group.members.filter(
    (member) =>
      isReachable(member) &&
      (member.isServing || member.role.isBeingAdded) &&
      members.some(({ serial }) => serial === member.serial),
  );
  const [generatingMember] = present.filter(({ isServing }) => isServing);
  if (generatingMember === undefined)
    refuse(CKR.deviceRemoved, `no member could be reached: ${group.describeMembers()}`);
  const salt = fromHex(record.salt);
  const generated = yield* generateDomainKey(
    group,
    generatingMember,
    group.port.randomBytes(8),
    salt,
    members,
    deadline,
  );
  for (const member of present) {
    const note = members.find(({ serial }) => serial === member.serial);
    const form = generated.forms.get(member.serial ?? '');
    if (note === undefined || form === undefined) continue;
    yield* installDomainKey(group, member, { transport: note, note: generated.note, form, salt }, deadline);
  }
  const pending = Object.fromEntries([...generated.forms].map(([serial, form]) => [serial, hex(form)]));
  const renewed = (now: GroupRecord): Partial<GroupRecord> => {
    const changes = change(now);
    // A member that another process added meanwhile has no wrapped form of this key.
    if (changes.members.some(({ serial }) => pending[serial] === undefined))
      refuse(CKR.actionProhibited, 'another process changed the membership at the same time; try again');
    const former = { ...now.domain, until: group.port.wallNow() };
    return { ...changes, domain: generated.note, retired: [former, ...(now.retired ?? [])], pending };
  };
  yield* publish(group, renewed, deadline);
}

/**
 * Wraps sealed keys under the current domain key, and removes older domain keys that no record names any more. Returns
 * true if no older one is left.
 */
export function* resealAndRetire(group: Group, deadline: number): Task<boolean> {
  const named = yield* reseal(group, deadline);
  const record = recordOf(group);
  const oldest = group.port.wallNow() - group.policy.freshness * GRACE_MULTIPLE;
  const isOver = ({ id, until = 0 }: DomainNote): boolean => !named.has(id) && until <= oldest;
  // While a member is away, its records may still name an old domain key.
  const areAllServing = record.members.every(({ serial }) =>
    group.members.some((member) => member.serial === serial && member.isServing),
  );
  if (!areAllServing || !(record.retired ?? []).some(isOver)) return (record.retired ?? []).length === 0;
  // A host without the private administration key leaves this to one that has it.
  if (group.ledger.isSigned && !group.port.authority.canSign(record.id)) return false;
  yield* publish(
    group,
    (now) => {
      const over = (now.retired ?? []).filter(isOver);
      return {
        retired: (now.retired ?? []).filter((note) => !isOver(note)),
        gone: [...(now.gone ?? []), ...over.map(({ id }) => id)],
      };
    },
    deadline,
  );
  for (const member of group.members) {
    if (isReachable(member) && member.isServing) yield* removeOldDomains(group, member, deadline);
  }
  return (recordOf(group).retired ?? []).length === 0;
}

/**
 * Starts a task that reseals and retires when no other process can still use an old domain key, and again after ever
 * longer times while a member is away. If this process ends before, `synchronize` or the next change of the membership
 * does that work.
 */
export function retireLater(group: Group): void {
  const { port, policy } = group;
  port.start(
    (function* (): Task<void> {
      let wait = policy.freshness * (GRACE_MULTIPLE + 1);
      for (let isDone = false; !isDone; wait = Math.min(wait * 2, LONGEST_WAIT)) {
        yield* sleepUntil(port.now() + wait);
        try {
          const until = port.now() + RETIRE_WITHIN;
          isDone = yield* runExclusively(group, resealAndRetire(group, until), until);
        } catch {
          // Tried again later.
        }
      }
    })(),
  );
}
