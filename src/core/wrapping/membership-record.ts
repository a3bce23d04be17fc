import { CKA, CKR } from '../../spec/codes.js';
import { optional, resultOf, step } from '../../spec/job.js';
import { refuse, TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { awaitResult, race, runTogether, waitUntil } from '../base/waiting.js';
import { isReachable, type MemberJobEnd, runOnMember, runOnMemberOrThrow } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { JobBuilder } from '../jobs/job-builder.js';
import type { MemberJob } from '../jobs/member-job.js';
import { fromHex, hex } from '../objects/note.js';
import { DOMAIN_LABEL, foundIn, ownKeyTemplate, recordsIn } from '../records/ledger.js';
import { type GroupRecord, groupTemplate, isLater, readRecord, recordTypes } from '../records/record.js';
import { domainTemplate, installDomainKey } from './domain-key.js';

/** More records of the group are never there, but for the moment when one takes another's place. */
const MOST_RECORDS = 16;
const MOST_DOMAINS = 64;
/** So often a change of the record is tried again when others have changed it meanwhile. */
const MOST_TRIES = 8;
/** Before writes the record is read again after so many times as long as that takes. */
const REFRESH_PAUSE = 10;
/** A member is waited for so long to take one record in, times `hangAfter`. */
const WRITE_MULTIPLE = 2;

/** Reads the group's own record, and nothing else. */
export const findGroupRecord: MemberJob = {
  function: 'C_FindObjects',
  objects: [],
  isReading: true,
  job: () => ({ steps: [step('X_Find', groupTemplate, MOST_RECORDS, recordTypes)] }),
};

/** Puts the group's record on a member, where there is none. */
export function* writeGroupRecord(group: Group, member: Member, record: GroupRecord, deadline: number): Task<void> {
  const builder = new JobBuilder();
  builder.addRecord(record);
  yield* runOnMemberOrThrow(group, member, { function: 'C_CreateObject', objects: [], job: () => builder }, deadline);
  member.recovery.noteRevision(record.revision);
}

/** The same where there are older ones, which go when the new one is there. Ends with how that went. */
function* replaceGroupRecord(
  group: Group,
  member: Member,
  record: GroupRecord,
  deadline: number,
): Task<MemberJobEnd | { readonly kind: 'overtaken' }> {
  const read = yield* runOnMember(group, member, findGroupRecord, deadline);
  if (read.kind !== 'done') return read;
  const own = foundIn(read.reply, 0).flatMap(({ handle, attributes: [value] }) => {
    const found = readRecord(value?.value ?? new Uint8Array());
    return typeof found === 'object' && found.kind === 'group' && found.id === record.id
      ? [{ handle: new Uint8Array(handle), found }]
      : [];
  });
  const later = own.find(({ found }) => isLater(found, record));
  if (later !== undefined) {
    group.adopt(later.found);
    return { kind: 'overtaken' };
  }
  const isThere = own.some(({ found }) => !isLater(record, found));
  const builder = new JobBuilder();
  if (!isThere) builder.addRecord(record);
  for (const { handle, found } of own) {
    if (isLater(record, found)) builder.add(optional(step('C_DestroyObject', handle)));
  }
  member.recovery.noteRevision(record.revision);
  if (builder.steps.length === 0) return read;
  const memberJob: MemberJob = { function: 'C_CreateObject', objects: [], login: read.login, job: () => builder };
  const end = yield* runOnMember(group, member, memberJob, deadline);
  if (end.kind !== 'done') member.recovery.noteRevision(undefined);
  return end;
}

/**
 * Changes the group's record, from what it is when its turn has come, and writes it on all members that can be
 * reached, one after the other; the others get it when they are met again. Throws when none of them took it: then
 * nothing has changed.
 */
export function* publish(
  group: Group,
  change: (record: GroupRecord) => Partial<GroupRecord>,
  deadline: number,
): Task<void> {
  const mine = group.port.start(group.publicationMutex.runExclusive(publishInTurn(group, change, deadline)));
  // Begun is finished: half of it would be a record that only some have.
  group.keepAlive(mine);
  yield* awaitResult(mine);
}

function* publishInTurn(
  group: Group,
  change: (record: GroupRecord) => Partial<GroupRecord>,
  deadline: number,
): Task<void> {
  // Where another process was faster, the change is made of what that has written.
  for (let tries = 1; tries <= MOST_TRIES; tries += 1) {
    const published = yield* publishOnce(group, change, deadline);
    if (published === 'done') return;
    // Whoever was to take it has just been lost, and may come back.
    const isOver = tries === MOST_TRIES || group.isHopeless || group.port.now() >= deadline;
    if (published === 'untaken' && isOver)
      refuse(CKR.deviceRemoved, `no member took the group's new record: ${group.describeMembers()}`);
  }
  refuse(CKR.actionProhibited, "other processes change the group's record all the time");
}

/** `overtaken` when another process has written a later record meanwhile, `untaken` when no member took it. */
function* publishOnce(
  group: Group,
  change: (record: GroupRecord) => Partial<GroupRecord>,
  deadline: number,
): Task<'done' | 'overtaken' | 'untaken'> {
  const { port, policy, ledger } = group;
  while (!group.members.some((member) => mayHoldRecord(member)) && port.now() < deadline && !group.isHopeless)
    yield* race([group.changed], deadline);
  // Another process may have changed it just now.
  for (const member of group.members) if (mayHoldRecord(member)) yield* learnRecord(group, member, deadline);
  if (ledger.record === undefined) throw new Error('there is no group record to go on from');
  const { revision } = ledger.record;
  const record: GroupRecord = {
    ...ledger.record,
    ...change(ledger.record),
    revision: revision + 1,
    time: group.nextTimestamp(),
    writer: port.writer,
  };
  let written = 0;
  for (const member of group.members) {
    if (!mayHoldRecord(member)) continue;
    if (!record.members.some(({ serial }) => serial === member.serial)) continue;
    const until = Math.min(deadline, port.now() + policy.hangAfter * WRITE_MULTIPLE + policy.writeHangAfter);
    const end = yield* replaceGroupRecord(group, member, record, until);
    if (end.kind === 'overtaken') return 'overtaken';
    if (end.kind === 'done') written += 1;
  }
  if (written === 0) return 'untaken';
  yield* tellLeaving(group, record, deadline);
  group.adopt(record);
  // Two that write at the same time: the one whose record is not the later one looks again.
  for (const member of group.members) if (mayHoldRecord(member)) yield* learnRecord(group, member, deadline);
  const { record: latest } = group.ledger;
  return latest?.writer === record.writer || latest?.revision !== record.revision ? 'done' : 'overtaken';
}

/**
 * A member that leaves says so too, where it still says anything: another process may be able to ask nobody but it.
 * One that was taken the record off gets no other.
 */
function* tellLeaving(group: Group, record: GroupRecord, deadline: number): Task<void> {
  const { port, policy } = group;
  for (const member of group.members) {
    const stays = record.members.some(({ serial }) => serial === member.serial);
    if (stays || !member.recovery.isOfGroup || member.recovery.revision < 0 || !mayHoldRecord(member)) continue;
    yield* replaceGroupRecord(
      group,
      member,
      record,
      Math.min(deadline, port.now() + policy.hangAfter * WRITE_MULTIPLE),
    );
  }
}

/** One that is just coming, and is a member already, gets it on its own way. */
function mayHoldRecord(member: Member): boolean {
  if (!isReachable(member) || member.serial === undefined) return false;
  return member.role.isBeingAdded || member.state.name !== 'joining';
}

/** Takes in a member's record of the group as it is now. `none`: it has been taken off it. */
export function* learnRecord(group: Group, member: Member, deadline: number): Task<'read' | 'none' | 'unread'> {
  const { record } = group.ledger;
  const until = Math.min(deadline, group.port.now() + group.policy.hangAfter * WRITE_MULTIPLE);
  const end = yield* runOnMember(group, member, findGroupRecord, until);
  if (end.kind !== 'done') return 'unread';
  const own = recordsIn(foundIn(end.reply, 0)).group?.record;
  const isOurs = own !== undefined && own.id === record?.id;
  member.recovery.noteRevision(isOurs ? own.revision : undefined);
  if (isOurs) group.adopt(own);
  return isOurs ? 'read' : 'none';
}

/** Takes in what any member that can be reached says of the group as it is now: what is decided next goes by that. */
export function* learnLatest(group: Group, deadline: number): Task<void> {
  const readable = group.members.filter((member) => mayHoldRecord(member));
  yield* runTogether(
    group,
    readable.map((member) => learnRecord(group, member, deadline)),
  );
}

/** Before objects are changed: the record of now, and those that are in doubt then are out of service. */
export function* refreshForChange(group: Group, deadline: number): Task<void> {
  yield* refreshRecord(group, deadline);
  const isDoubted = ({ isActive, suspectedFor }: Member): boolean => isActive && suspectedFor !== undefined;
  yield* waitUntil(group.port, [group.changed], () => !group.members.some(isDoubted), deadline);
}

/**
 * What other processes have made of the group is read again, where it was not just now. Whoever goes by an old record
 * wraps keys for members that have left.
 */
export function* refreshRecord(group: Group, deadline: number): Task<void> {
  const { port, policy, ledger } = group;
  if (ledger.record === undefined) return;
  const active = group.members.filter(({ isActive, suspectedFor }) => isActive && suspectedFor === undefined);
  // A SoftHSM that has not looked just before it writes is blind afterwards (see blindness.ts): as often as that costs little.
  const mayGoBlind = active.some(({ writesExclusively }) => writesExclusively);
  const pause = mayGoBlind ? Math.min(policy.freshness, group.recordReadTook * REFRESH_PAUSE) : policy.freshness;
  if (active.length === 0 || port.now() - group.recordReadAt < pause) return;
  group.refreshing ??= port.start(readRecordOf(group, active, deadline));
  const { refreshing } = group;
  yield* race([refreshing], deadline);
}

function mistrust(member: Member): void {
  const { connection } = member;
  if (connection === undefined) return;
  member.recovery.require();
  member.suspect(connection, 'it does not know the newest state of the group');
}

/** From all of them: one may just have left the group, and hosts are slow to see what others have written. */
function* readRecordOf(group: Group, members: readonly Member[], deadline: number): Task<void> {
  const { port, policy } = group;
  const startedAt = port.now();
  group.recordReadAt = startedAt;
  try {
    const learnt = yield* runTogether(
      group,
      members.map((member) => learnRecord(group, member, deadline)),
    );
    // Where it could not be read, the next one to ask may try again.
    if (!learnt.includes('read')) group.recordReadAt = startedAt - policy.freshness;
    // Nothing is made on who may have left the group meanwhile: a fresh host tells.
    if (learnt.every((each) => each === 'none')) for (const member of members) mistrust(member);
  } finally {
    group.recordReadTook = port.now() - startedAt;
    group.refreshing = undefined;
  }
}

/** Gives a member that returns the domain key and the record of now. Ends with the reason when it may not serve. */
export function* bringUpToDate(group: Group, member: Member): Task<string | undefined> {
  const { port, policy, ledger } = group;
  const { record } = ledger;
  const { serial, connection } = member;
  if (record === undefined || serial === undefined || connection === undefined) return undefined;
  const note = record.members.find((each) => each.serial === serial);
  if (note === undefined) return 'it was removed from the group';
  const own = connection.records?.group?.record;
  member.recovery.noteRevision(own?.id === record.id ? own.revision : undefined);
  const isUpToDate = member.recovery.revision >= record.revision && connection.records?.hasOlder !== true;
  // It may have been given the record while it could not be given the key.
  if (isUpToDate && record.pending?.[serial] === undefined) return undefined;
  const deadline = port.now() + policy.hangAfter * WRITE_MULTIPLE + policy.writeHangAfter;
  try {
    const form = record.pending?.[serial];
    if (form !== undefined)
      yield* installDomainKey(group, member, note, record.domain, fromHex(form), fromHex(record.salt), deadline);
    else if (!(yield* holdsDomain(group, member, record.domain.id, deadline)))
      return 'the domain key of now is not there for it: remove it, and add it again';
    if (isUpToDate) return undefined;
    const written = yield* replaceGroupRecord(group, member, record, deadline);
    if (written.kind === 'overtaken') return "the group's record has just been changed once more";
    if (written.kind !== 'done') return "the group's record could not be written there";
    yield* removeOldDomains(group, member, deadline);
    group.emit({ type: 'sync', member: member.name, what: 'updated', objects: [] });
    return undefined;
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    return `the group's record could not be brought there: ${error.message}`;
  }
}

function* holdsDomain(group: Group, member: Member, id: string, deadline: number): Task<boolean> {
  const find: MemberJob = {
    function: 'C_FindObjects',
    objects: [],
    isReading: true,
    job: () => ({ steps: [step('X_Find', domainTemplate(id), 1, [])] }),
  };
  return resultOf(yield* runOnMemberOrThrow(group, member, find, deadline), 0, 'X_Find').length > 0;
}

/** Takes domain keys off a member that no record of the group names any more. */
export function* removeOldDomains(group: Group, member: Member, deadline: number): Task<number> {
  const CKA_ID = CKA.id;
  const find: MemberJob = {
    function: 'C_FindObjects',
    objects: [],
    isReading: true,
    job: () => ({ steps: [step('X_Find', ownKeyTemplate(DOMAIN_LABEL), MOST_DOMAINS, [CKA_ID])] }),
  };
  const found = resultOf(yield* runOnMemberOrThrow(group, member, find, deadline), 0, 'X_Find');
  // One that is not known may be what another process is just making.
  const gone = new Set(group.ledger.record?.gone);
  const old = found.filter(({ attributes: [id] }) => gone.has(hex(id?.value ?? new Uint8Array())));
  if (old.length === 0) return 0;
  const steps = old.map(({ handle }) => step('C_DestroyObject', handle));
  yield* runOnMemberOrThrow(
    group,
    member,
    { function: 'C_DestroyObject', objects: [], job: () => ({ steps }) },
    deadline,
  );
  return old.length;
}

/** A member has all keys now: it serves like the others. */
export function* announceFilled(group: Group, member: Member): Task<void> {
  const { record } = group.ledger;
  if (record === undefined || member.serial === undefined) return;
  const remaining = ({ filling = [] }: GroupRecord): Partial<GroupRecord> => ({
    filling: filling.filter((serial) => serial !== member.serial),
  });
  const deadline = group.port.now() + group.policy.hangAfter * WRITE_MULTIPLE + group.policy.writeHangAfter;
  yield* publish(group, remaining, deadline);
  member.role.endAdding();
  member.recovery.setOfGroup(true);
}
