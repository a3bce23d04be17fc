import { ck } from '../spec/constants.js';
import { step } from '../spec/job.js';
import type { MemberConfig } from './configuration.js';
import { bearDomain, installDomain, makeTransport } from './domain-key.js';
import { type Errand, insist, isReachable } from './errand.js';
import { TokenError } from './error.js';
import type { Group } from './group.js';
import { findRecords, foundIn, recordsIn } from './ledger.js';
import type { Member } from './member.js';
import { publish, removeOldDomains } from './membership-record.js';
import { isFailure } from './outcome.js';
import { type DomainNote, fromHex, type GroupRecord, hex } from './record.js';
import { fail } from './refusal.js';
import { removeOwn, wipeObjects } from './removal.js';
import { reseal } from './resealing.js';
import { dismiss, enlist } from './roster.js';
import { reasonOf } from './state.js';
import { checkStorage } from './storage-check.js';
import { surveyMember } from './survey.js';
import { FOREVER, type Task } from './task.js';

const CKR = {
  actionProhibited: ck('CKR_ACTION_PROHIBITED'),
  argumentsBad: ck('CKR_ARGUMENTS_BAD'),
  deviceRemoved: ck('CKR_DEVICE_REMOVED'),
  functionNotSupported: ck('CKR_FUNCTION_NOT_SUPPORTED'),
  userNotLoggedIn: ck('CKR_USER_NOT_LOGGED_IN'),
} as const;

/** What is done beside, without anybody who waits, gets so long (ms). */
const RETIRE_WITHIN = 60_000;
/** How often it is looked whether a member has finished what is running (ms). */
const LOOK_AGAIN = 20;

export interface AddOptions {
  /** What to do with records of another group on the token: `remove` takes them and their keys away. */
  readonly existing?: 'remove' | undefined;
}

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

/** One change of the membership at a time in this process. */
export function inTurn<T>(group: Group, task: Task<T>): Task<T> {
  return group.reforming.take(task);
}

/** One change of the membership at a time on this machine; between machines the later record wins, and the other is tried again. */
function* alone<T>(group: Group, deadline: number, task: () => Task<T>): Task<T> {
  const name = `pkcs11-ha ${recordOf(group).id} membership`;
  for (;;) {
    const release = group.port.claim(name);
    if (release !== undefined) {
      try {
        return yield* task();
      } finally {
        release();
      }
    }
    if (group.port.now() >= deadline) fail(CKR.actionProhibited, 'another process is changing the membership');
    yield { signals: [], until: group.port.now() + LOOK_AGAIN };
  }
}

/** The group's record, for whoever is about to change it; throws where it may not be. */
export function recordOf(group: Group): GroupRecord {
  const { ledger } = group;
  if (!group.isLoggedIn) fail(CKR.userNotLoggedIn, 'a group is changed by who has logged in');
  if (ledger.isNewer) fail(CKR.actionProhibited, 'a later version has written records: this one does not write');
  if (ledger.record === undefined)
    fail(CKR.functionNotSupported, 'the members have no group record yet: createGroup writes it');
  return ledger.record;
}

/**
 * Makes a token a member: it gets a transport key, the group a new domain key, all keys are copied, and then it
 * serves. What was interrupted is gone on with by the same call.
 */
export function* addMember(group: Group, config: MemberConfig, options: AddOptions, deadline: number): Task<void> {
  recordOf(group);
  const known = group.members.find(({ name, dismissedFor }) => name === config.name && dismissedFor === undefined);
  if (known !== undefined && group.ledger.record?.members.some(({ serial }) => serial === known.serial)) {
    yield* awaitInService(group, known, deadline);
    return;
  }
  if (known !== undefined) {
    // It is configured already, and waits for being made a member.
    dismiss(known, 'it is made a member');
    while (group.members.includes(known) && group.port.now() < deadline)
      yield { signals: [group.changed], until: Math.min(deadline, group.port.now() + LOOK_AGAIN) };
  }
  const member = enlist(group, config, true);
  try {
    yield* alone(group, deadline, () => admit(group, member, options, deadline));
  } catch (error) {
    if (member.isApplicant && !group.ledger.isMember(member.serial ?? ''))
      dismiss(member, 'it could not be made a member');
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
    member.isApplicant = false;
    member.directed.fire();
    return;
  }
  yield* checkBelonging(group, member, record, existing, deadline);
  yield* checkStorage(group, member, deadline);
  const note = yield* makeTransport(group, member, group.port.randomBytes(8), deadline);
  yield* renewDomain(
    group,
    (now) => ({ members: [...now.members, note], filling: [...(now.filling ?? []), serial] }),
    deadline,
  );
  member.directed.fire();
  yield* resealAndRetire(group, deadline);
  retireLater(group);
}

/** Waits until its token was found and the login made. */
function* awaitPresence(group: Group, member: Member, deadline: number): Task<void> {
  while (member.serial === undefined || !isReachable(member)) {
    const { state } = member;
    if (state.name === 'down') fail(CKR.deviceRemoved, `${member.name} cannot be reached: ${reasonOf(state)}`);
    if (group.port.now() >= deadline) fail(CKR.deviceRemoved, `${member.name} did not answer in time`);
    yield { signals: [group.changed, member.directed], until: Math.min(deadline, group.port.now() + LOOK_AGAIN) };
  }
}

function* awaitInService(group: Group, member: Member, deadline: number): Task<void> {
  while (!member.isServing) {
    const { state } = member;
    if (state.name === 'down' && state.retryAt === FOREVER)
      fail(CKR.deviceRemoved, `${member.name} is a member, but does not serve: ${reasonOf(state)}`);
    if (group.port.now() >= deadline) {
      const why = reasonOf(state) === '' ? state.name : `${state.name} (${reasonOf(state)})`;
      fail(CKR.deviceRemoved, `${member.name} is a member, but did not come into service in time: it is ${why}`);
    }
    yield { signals: [group.changed], until: deadline };
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
  const find: Errand = {
    function: 'C_FindObjects',
    objects: [],
    isReading: true,
    job: () => ({ steps: [findRecords] }),
  };
  const found = recordsIn(foundIn(yield* insist(group, member, find, deadline), 0));
  if (found.newer) fail(CKR.actionProhibited, `a later version has written records on ${member.name}`);
  const own = found.group?.record;
  if (own !== undefined && own.id !== record.id && existing !== 'remove') {
    fail(
      CKR.actionProhibited,
      `${member.name} belongs to the group ${own.label}; existing: 'remove' takes its records and keys away`,
    );
  }
  yield* checkObjects(group, member, existing, deadline);
  yield* removeOwn(group, member, deadline);
}

/** What a member has and another does not; undefined where that cannot be told. */
function* beyond(member: Member, other: Member | undefined): Task<readonly string[] | undefined> {
  if (member.connection === undefined || other?.connection === undefined) return undefined;
  const own = yield* surveyMember(member.connection);
  const theirs = yield* surveyMember(other.connection);
  if (isFailure(own) || isFailure(theirs)) return undefined;
  return own.objects
    .filter(({ identity }) => theirs.of(identity).length === 0)
    .map(({ description }) => Buffer.from(description.label).toString());
}

/** Objects that the group does not have are not let in with a new member: it may have destroyed them. */
function* checkObjects(group: Group, member: Member, existing: AddOptions['existing'], deadline: number): Task<void> {
  const source = group.members.find(({ isActive }) => isActive);
  const foreign = yield* beyond(member, source);
  if (foreign === undefined) fail(CKR.deviceRemoved, `${member.name} could not be compared with the others`);
  if (foreign.length === 0) return;
  if (existing !== 'remove') {
    fail(
      CKR.actionProhibited,
      `${member.name} holds ${foreign.length} objects that the group does not have; existing: 'remove' takes all its objects away`,
    );
  }
  yield* wipeObjects(group, member, deadline);
}

/** Nothing is wiped that only the member that leaves has. */
function* checkNothingOnlyThere(group: Group, member: Member): Task<void> {
  if (!member.isServing) return;
  const other = group.members.find((each) => each !== member && each.isActive);
  const only = yield* beyond(member, other);
  if (only === undefined) fail(CKR.deviceRemoved, `${member.name} could not be compared with the others`);
  if (only.length > 0) {
    fail(
      CKR.actionProhibited,
      `${member.name} holds ${only.length} objects that ${other?.name} does not have: synchronize, or remove it without wipe`,
    );
  }
}

/** Makes a new domain key for the members that there are from now on, and writes the record that says so. */
function* renewDomain(
  group: Group,
  change: (record: GroupRecord) => Partial<GroupRecord> & Pick<GroupRecord, 'members'>,
  deadline: number,
): Task<void> {
  const record = recordOf(group);
  const { members } = change(record);
  const present = group.members.filter(
    (member) =>
      isReachable(member) &&
      (member.isServing || member.isApplicant) &&
      members.some(({ serial }) => serial === member.serial),
  );
  const [birthplace] = present.filter(({ isServing }) => isServing);
  if (birthplace === undefined) fail(CKR.deviceRemoved, `no member could be reached: ${group.whereabouts}`);
  const salt = fromHex(record.salt);
  const born = yield* bearDomain(group, birthplace, group.port.randomBytes(8), salt, members, deadline);
  for (const member of present) {
    const note = members.find(({ serial }) => serial === member.serial);
    const form = born.forms.get(member.serial ?? '');
    if (note === undefined || form === undefined) continue;
    yield* installDomain(group, member, note, born.note, form, salt, deadline);
  }
  const pending = Object.fromEntries([...born.forms].map(([serial, form]) => [serial, hex(form)]));
  const renewed = (now: GroupRecord): Partial<GroupRecord> => {
    const changes = change(now);
    // A member that came meanwhile has no form of this key.
    if (changes.members.some(({ serial }) => pending[serial] === undefined))
      fail(CKR.actionProhibited, 'another process has changed the membership at the same time: try again');
    const former = { ...now.domain, until: group.port.wallNow() };
    return { ...changes, domain: born.note, retired: [former, ...(now.retired ?? [])], pending };
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
function retireLater(group: Group): void {
  const { port, policy } = group;
  port.start(
    (function* (): Task<void> {
      const until = port.now() + policy.freshness * (GRACE_MULTIPLE + 1);
      while (port.now() < until) yield { signals: [], until };
      try {
        yield* inTurn(group, resealAndRetire(group, port.now() + RETIRE_WITHIN));
      } catch {
        // Synchronizing does it, or the next change of the membership.
      }
    })(),
  );
}

/** Takes a member out of the group for good. It may be away; then what is on it stays there. */
export function* removeMember(
  group: Group,
  name: string,
  { wipe }: RemoveOptions,
  deadline: number,
): Task<RemovalReport> {
  const record = recordOf(group);
  const member = group.members.find((each) => each.name === name);
  const serial = member?.serial ?? record.members.find((note) => note.name === name)?.serial;
  if (member === undefined && serial === undefined) fail(CKR.argumentsBad, `no member has the name ${name}`);
  if (!group.members.some((other) => other !== member && other.isActive))
    fail(CKR.actionProhibited, `${name} is the last member that serves: ${group.whereabouts}`);
  if (member !== undefined) {
    member.holds += 1;
    member.isApplicant = false;
  }
  try {
    if (wipe && member !== undefined) yield* checkNothingOnlyThere(group, member);
    if (serial !== undefined && record.members.some((note) => note.serial === serial)) {
      const without = (serials: readonly string[] = []): readonly string[] => serials.filter((each) => each !== serial);
      const renewal = (): Task<void> =>
        renewDomain(
          group,
          ({ members, filling, drained }) => ({
            members: members.filter((note) => note.serial !== serial),
            filling: without(filling),
            drained: without(drained),
          }),
          deadline,
        );
      yield* alone(group, deadline, renewal);
    }
    let cleaned = false;
    let removed = 0;
    let reason = 'it could not be reached';
    const leaving = member === undefined ? undefined : yield* reachLeaving(group, member, deadline);
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
        reason = error.message;
      } finally {
        if (leaving !== member) dismiss(leaving, 'it was removed from the group');
      }
    }
    if (serial !== undefined) yield* forgetMissed(group, serial, deadline);
    yield* resealAndRetire(group, deadline);
    retireLater(group);
    return { member: name, cleaned, removed, reason };
  } finally {
    if (member !== undefined) {
      member.holds -= 1;
      if (!group.ledger.isMember(serial ?? '')) dismiss(member, 'it was removed from the group');
    }
  }
}

/** The member that leaves; one that has left before, in a try that was interrupted, is visited once more. */
function* reachLeaving(group: Group, member: Member, deadline: number): Task<Member | undefined> {
  if (isReachable(member)) return member;
  const visitor = enlist(group, member.config, true);
  try {
    yield* awaitPresence(group, visitor, Math.min(deadline, group.port.now() + group.policy.deadline));
    return visitor;
  } catch {
    dismiss(visitor, 'it could not be reached');
    return undefined;
  }
}

/** Waits until a member serves no more and has finished what was running. */
function* awaitRest(group: Group, member: Member, deadline: number): Task<void> {
  const until = Math.min(deadline, group.port.now() + group.policy.hangAfter);
  while (member.isServing || ((member.connection?.load ?? 0) > 0 && group.port.now() < until)) {
    if (group.port.now() >= deadline) return;
    yield { signals: [group.changed], until: group.port.now() + LOOK_AGAIN };
  }
}

/** Nobody waits for a member any more that has left: what it has missed need not stand anywhere. */
function* forgetMissed(group: Group, serial: string, deadline: number): Task<void> {
  for (const holder of group.members) {
    if (!holder.isServing || !isReachable(holder)) continue;
    const find: Errand = {
      function: 'C_FindObjects',
      objects: [],
      isReading: true,
      job: () => ({ steps: [findRecords] }),
    };
    const { changes } = recordsIn(foundIn(yield* insist(group, holder, find, deadline), 0));
    const done = changes.filter(
      ({ record }) => record.kind === 'journal' && record.missed.every((missed) => missed === serial),
    );
    while (done.length > 0) {
      const steps = done.splice(0, 64).map(({ handle }) => step('C_DestroyObject', handle));
      yield* insist(group, holder, { function: 'C_DestroyObject', objects: [], job: () => ({ steps }) }, deadline);
    }
    for (const { record } of changes) group.missed.settle(record.operation, serial);
  }
}

/** Takes a member out of service, or back into it, for all processes that use the group. */
export function* setDrained(group: Group, name: string, drained: boolean, deadline: number): Task<void> {
  const record = recordOf(group);
  const serial =
    group.members.find((member) => member.name === name)?.serial ??
    record.members.find((note) => note.name === name)?.serial;
  if (serial === undefined || !record.members.some((note) => note.serial === serial))
    fail(CKR.argumentsBad, `no member of the group has the name ${name}`);
  const member = group.members.find((each) => each.serial === serial);
  if (!drained && member?.config.drained === true)
    fail(CKR.actionProhibited, `${name} is configured as drained: change the configuration`);
  const before = record.drained ?? [];
  if (before.includes(serial) !== drained) {
    if (drained && !group.members.some((other) => other !== member && other.isActive))
      fail(CKR.actionProhibited, `${name} is the last member that serves: ${group.whereabouts}`);
    const change = (now: GroupRecord): Partial<GroupRecord> => {
      const others = (now.drained ?? []).filter((each) => each !== serial);
      return { drained: drained ? [...others, serial] : others };
    };
    yield* alone(group, deadline, () => publish(group, change, deadline));
  }
  if (member === undefined) return;
  const isDone = (): boolean =>
    drained
      ? member.state.name === 'drained' && (member.connection?.end !== undefined || member.connection === undefined)
      : member.isServing;
  while (!isDone()) {
    if (!drained && member.state.name === 'down')
      fail(CKR.deviceRemoved, `${name} cannot come back: ${reasonOf(member.state)}`);
    if (group.port.now() >= deadline) fail(CKR.deviceRemoved, `${name} is still ${member.state.name}`);
    yield { signals: [group.changed], until: Math.min(deadline, group.port.now() + LOOK_AGAIN) };
  }
}

/** Has a member serve, or wait in reserve, in this process. */
export function assign(group: Group, name: string, duty: 'active' | 'standby'): void {
  const member = group.members.find((each) => each.name === name);
  if (member === undefined) fail(CKR.argumentsBad, `no member has the name ${name}`);
  if (duty === 'standby' && !group.members.some((other) => other !== member && other.isActive))
    fail(CKR.actionProhibited, `${name} is the last member that serves: ${group.whereabouts}`);
  member.duty = duty;
  member.directed.fire();
  member.suspicion.fire();
}

/** Has a member that is away try to come back now, and waits until it has or cannot. */
export function* recoverMember(group: Group, name: string, deadline: number): Task<void> {
  const member = group.members.find((each) => each.name === name);
  if (member === undefined) fail(CKR.argumentsBad, `no member has the name ${name}`);
  if (group.orderFor(member) !== undefined) fail(CKR.actionProhibited, `${name}: ${group.orderFor(member)}`);
  if (member.isServing && member.state.name !== 'stale') return;
  member.isRecalled = true;
  const before = member.moves;
  member.directed.fire();
  for (;;) {
    if (member.isServing) return;
    if (member.state.name === 'down' && member.moves > before)
      fail(CKR.deviceRemoved, `${name} does not come back: ${reasonOf(member.state)}`);
    if (group.port.now() >= deadline) fail(CKR.deviceRemoved, `${name} is still ${member.state.name}`);
    yield { signals: [group.changed], until: deadline };
  }
}
