import { CKR } from '../../spec/codes.js';
import { refuse } from '../base/error.js';
import type { Task } from '../base/task.js';
import { awaitClaim, sleepUntil } from '../base/waiting.js';
import { isReachable } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import { isFailure } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { fromHex, hex } from '../objects/note.js';
import type { DomainNote, GroupRecord } from '../records/record.js';
import { surveyMember } from '../replicas/survey.js';
import { generateDomainKey, installDomainKey } from '../wrapping/domain-key.js';
import { publish, removeOldDomains } from '../wrapping/membership-record.js';
import { reseal } from '../wrapping/resealing.js';

/** How often it is looked whether something has come about (ms). */
const LOOK_AGAIN = 20;

/** What is done beside, without anybody who waits, gets so long (ms). */
const RETIRE_WITHIN = 60_000;

/** One work on the group at a time in this process. */
export function runExclusively<T>(group: Group, task: Task<T>, deadline: number): Task<T> {
  return group.administrationMutex.runExclusive(task, deadline);
}

/** One change of the membership at a time on this machine; between machines the later record wins, and the other is tried again. */
export function* runClaimed<T>(group: Group, deadline: number, task: () => Task<T>): Task<T> {
  const name = `pkcs11-ha ${recordOf(group).id} membership`;
  const release = yield* awaitClaim(group.port, name, LOOK_AGAIN, deadline);
  if (release === undefined) refuse(CKR.actionProhibited, 'another process is changing the membership');
  try {
    return yield* task();
  } finally {
    release();
  }
}

/** The group's record, for whoever is about to change it; throws where it may not be. */
export function recordOf(group: Group): GroupRecord {
  const { ledger } = group;
  if (!group.isLoggedIn) refuse(CKR.userNotLoggedIn, 'a group is changed by who has logged in');
  if (ledger.isNewer) refuse(CKR.actionProhibited, 'a later version has written records: this one does not write');
  if (ledger.record === undefined)
    refuse(CKR.functionNotSupported, 'the members have no group record yet: createGroup writes it');
  return ledger.record;
}

/** Whoever rests or leaves is not the last one, also by what another process has just changed. */
export function checkSomebodyServes(name: string, members: GroupRecord['members'], drained: readonly string[]): void {
  if (members.every(({ serial }) => drained.includes(serial)))
    refuse(CKR.actionProhibited, `${name} is the last member that is not drained`);
}

/** What a member has and another does not; undefined where that cannot be told. */
export function* objectsBeyond(member: Member, other: Member | undefined): Task<readonly string[] | undefined> {
  if (member.connection === undefined || other?.connection === undefined) return undefined;
  const own = yield* surveyMember(member.connection);
  const theirs = yield* surveyMember(other.connection);
  if (isFailure(own) || isFailure(theirs)) return undefined;
  return own.objects
    .filter(({ identity }) => theirs.of(identity).length === 0)
    .map(({ description }) => Buffer.from(description.label).toString());
}

/** Makes a new domain key for the members that there are from now on, and writes the record that says so. */
export function* renewDomainKey(
  group: Group,
  change: (record: GroupRecord) => Partial<GroupRecord> & Pick<GroupRecord, 'members'>,
  deadline: number,
): Task<void> {
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
    yield* installDomainKey(group, member, note, generated.note, form, salt, deadline);
  }
  const pending = Object.fromEntries([...generated.forms].map(([serial, form]) => [serial, hex(form)]));
  const renewed = (now: GroupRecord): Partial<GroupRecord> => {
    const changes = change(now);
    // A member that came meanwhile has no form of this key.
    if (changes.members.some(({ serial }) => pending[serial] === undefined))
      refuse(CKR.actionProhibited, 'another process has changed the membership at the same time: try again');
    const former = { ...now.domain, until: group.port.wallNow() };
    return { ...changes, domain: generated.note, retired: [former, ...(now.retired ?? [])], pending };
  };
  yield* publish(group, renewed, deadline);
}

/** For so many times `freshness` other processes may go on with a domain key that was replaced. */
const GRACE_MULTIPLE = 10;

/** Wraps what is kept sealed under the domain key of now, and lets go of those before it that nothing names any more. */
export function* resealAndRetire(group: Group, deadline: number): Task<void> {
  const named = yield* reseal(group, deadline);
  const record = recordOf(group);
  const oldest = group.port.wallNow() - group.policy.freshness * GRACE_MULTIPLE;
  const isOver = ({ id, until = 0 }: DomainNote): boolean => !named.has(id) && until <= oldest;
  // While a member is away, its records may still name an old one.
  const everybodyIsThere = record.members.every(({ serial }) =>
    group.members.some((member) => member.serial === serial && member.isServing),
  );
  if (!everybodyIsThere || !(record.retired ?? []).some(isOver)) return;
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
}

/** The same later, when no other process can be using an old one any more; a process that ends leaves it to the next. */
export function retireLater(group: Group): void {
  const { port, policy } = group;
  port.start(
    (function* (): Task<void> {
      const until = port.now() + policy.freshness * (GRACE_MULTIPLE + 1);
      yield* sleepUntil(until);
      try {
        yield* runExclusively(group, resealAndRetire(group, port.now() + RETIRE_WITHIN), port.now() + RETIRE_WITHIN);
      } catch {
        // Synchronizing does it, or the next change of the membership.
      }
    })(),
  );
}
