import { CKR } from '../../spec/codes.js';
import { optional, step } from '../../spec/job.js';
import { refuse, TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { awaitResult, race } from '../base/waiting.js';
import { type MemberJobEnd, runOnMember, runOnMemberOrThrow } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { JobBuilder } from '../jobs/job-builder.js';
import type { MemberJob } from '../jobs/member-job.js';
import { fromHex } from '../objects/note.js';
import { foundIn } from '../records/ledger.js';
import { type GroupRecord, isLater } from '../records/record.js';
import { readRecord } from '../records/record-schema.js';
import { holdsDomainKey, installDomainKey } from './domain-installation.js';
import { findGroupRecord, learnRecord, mayHoldRecord, READ_MULTIPLE } from './group-record-reading.js';
import { sign, withSignature } from './group-record-signature.js';
import { removeOldDomains } from './removal.js';

/** Maximum number of tries to change the record while other processes change it too. */
const MOST_TRIES = 8;

/** Change of the group record, made from the newest record: returns the fields that change. */
type RecordChange = (record: GroupRecord) => Partial<GroupRecord>;
/** Gives a changed record its signature; gets the record as it was and as it is to be. */
type Signer = typeof withSignature;

/** Writes the group record on a member that has none. */
export function* writeGroupRecord(group: Group, member: Member, record: GroupRecord, deadline: number): Task<void> {
  const builder = new JobBuilder();
  builder.addRecord(record);
  yield* runOnMemberOrThrow(group, member, { function: 'C_CreateObject', objects: [], job: () => builder }, deadline);
  member.recovery.noteRevision(record.revision);
}

/** Writes the group record on a member, then removes its older ones. `overtaken`: the member has a later one. */
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
    const isOwn = typeof found === 'object' && found.kind === 'group' && found.id === record.id;
    return isOwn && group.ledger.trust.of(found) !== 'refused' ? [{ handle: new Uint8Array(handle), found }] : [];
  });
  const later = own.find(({ found }) => isLater(found, record));
  if (later !== undefined) {
    group.adopt(later.found);
    return { kind: 'overtaken' };
  }
  const isWritten = own.some(({ found }) => !isLater(record, found));
  const builder = new JobBuilder();
  if (!isWritten) builder.addRecord(record);
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
 * Changes the group record, based on the newest one, and writes it on all members that can be reached, one after the
 * other; the others get it when they return. Throws if no member took it: nothing has changed then.
 */
export function publish(group: Group, change: RecordChange, deadline: number): Task<void> {
  return publishWith(group, change, withSignature, deadline);
}

/** Does the same, and signs the record whatever signature it has had: the operator has confirmed what it states. */
export function publishSigned(group: Group, change: RecordChange, deadline: number): Task<void> {
  const signAnew: Signer = (_group, { sequence = 0 }, record, until) =>
    sign(group, { ...record, sequence: sequence + 1 }, until);
  return publishWith(group, change, signAnew, deadline);
}

function* publishWith(group: Group, change: RecordChange, signer: Signer, deadline: number): Task<void> {
  const publication = group.port.start(
    group.publicationMutex.runExclusive(publishExclusively(group, change, signer, deadline)),
  );
  // Once begun, it runs to its end, since a record that only some members have would remain otherwise.
  group.keepAlive(publication);
  yield* awaitResult(publication);
}

function* publishExclusively(group: Group, change: RecordChange, signer: Signer, deadline: number): Task<void> {
  // If another process was faster, the next try makes the change from the record of that process.
  for (let tries = 1; tries <= MOST_TRIES; tries += 1) {
    const published = yield* publishOnce(group, change, signer, deadline);
    if (published === 'done') return;
    // A member that was lost during this try may come back for the next.
    const isOver = tries === MOST_TRIES || group.isHopeless || group.port.now() >= deadline;
    if (published === 'untaken' && isOver)
      refuse(CKR.deviceRemoved, `no member took the group's new record: ${group.describeMembers()}`);
  }
  refuse(CKR.actionProhibited, "other processes keep changing the group's record; try again later");
}

/** Tries to change the record once. `overtaken`: another process wrote a later one; `untaken`: no member took it. */
function* publishOnce(
  group: Group,
  change: RecordChange,
  signer: Signer,
  deadline: number,
): Task<'done' | 'overtaken' | 'untaken'> {
  const { port, policy, ledger } = group;
  while (!group.members.some((member) => mayHoldRecord(member)) && port.now() < deadline && !group.isHopeless)
    yield* race([group.changed], deadline);
  // Another process may have changed the record just now.
  yield* learnFromEach(group, deadline);
  if (ledger.record === undefined) throw new Error('there is no group record to change');
  const { revision } = ledger.record;
  const changed: GroupRecord = {
    ...ledger.record,
    ...change(ledger.record),
    revision: revision + 1,
    time: group.nextTimestamp(),
    writer: group.coordinator.writer,
  };
  const record = yield* signer(group, ledger.record, changed, deadline);
  let written = 0;
  for (const member of group.members) {
    if (!mayHoldRecord(member)) continue;
    if (!record.members.some(({ serial }) => serial === member.serial)) continue;
    const until = Math.min(deadline, port.now() + policy.hangAfter * READ_MULTIPLE + policy.writeHangAfter);
    const end = yield* replaceGroupRecord(group, member, record, until);
    if (end.kind === 'overtaken') return 'overtaken';
    if (end.kind === 'done') written += 1;
  }
  if (written === 0) return 'untaken';
  yield* tellLeaving(group, record, deadline);
  group.adopt(record);
  group.coordinator.announce();
  // If two processes write at the same time, the one whose record is not the later one tries again.
  yield* learnFromEach(group, deadline);
  const { record: latest } = group.ledger;
  return latest?.writer === record.writer || latest?.revision !== record.revision ? 'done' : 'overtaken';
}

function* learnFromEach(group: Group, deadline: number): Task<void> {
  for (const member of group.members) if (mayHoldRecord(member)) yield* learnRecord(group, member, deadline);
}

/**
 * Writes the record on members that it removes, if they answer: another process may reach no other member. A member
 * whose record was removed already gets no new one.
 */
function* tellLeaving(group: Group, record: GroupRecord, deadline: number): Task<void> {
  const { port, policy } = group;
  for (const member of group.members) {
    const stays = record.members.some(({ serial }) => serial === member.serial);
    if (stays || !member.recovery.isOfGroup || member.recovery.revision < 0 || !mayHoldRecord(member)) continue;
    const until = Math.min(deadline, port.now() + policy.hangAfter * READ_MULTIPLE);
    yield* replaceGroupRecord(group, member, record, until);
  }
}

/** Gives a member that returns the current domain key and record; returns the reason if the member may not serve. */
export function* bringUpToDate(group: Group, member: Member): Task<string | undefined> {
  const { port, policy, ledger } = group;
  const { record } = ledger;
  const { serial, connection } = member;
  if (record === undefined || serial === undefined || connection === undefined) return undefined;
  const note = record.members.find((each) => each.serial === serial);
  if (note === undefined) return 'the token was removed from the group';
  const own = connection.records?.group?.record;
  member.recovery.noteRevision(own?.id === record.id ? own.revision : undefined);
  const isNewest = own?.id === record.id && !isLater(record, own);
  const isUpToDate = isNewest && connection.records?.hasOlder !== true;
  // A pending domain key is installed even if the token has the record: the record may have come before the key.
  if (isUpToDate && record.pending?.[serial] === undefined) return undefined;
  const deadline = port.now() + policy.hangAfter * READ_MULTIPLE + policy.writeHangAfter;
  try {
    const form = record.pending?.[serial];
    const salt = fromHex(record.salt);
    if (form !== undefined) {
      const wrapped = { transport: note, note: record.domain, form: fromHex(form), salt };
      yield* installDomainKey(group, member, wrapped, deadline);
    } else if (!(yield* holdsDomainKey(group, member, record.domain, salt, deadline)))
      return 'the token lacks the current domain key, and no wrapped form is kept for it: remove the member, then add it';
    if (isUpToDate) return undefined;
    const written = yield* replaceGroupRecord(group, member, record, deadline);
    if (written.kind === 'overtaken') return "another process changed the group's record meanwhile";
    if (written.kind !== 'done') return "the group's record could not be written on the token";
    yield* removeOldDomains(group, member, deadline);
    group.emit({ type: 'sync', member: member.name, what: 'updated', objects: [] });
    return undefined;
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    return `the group's record could not be brought up to date on the token: ${error.message}`;
  }
}

/** Publishes that a new member has all keys: from now on it serves like the others. */
export function* announceFilled(group: Group, member: Member): Task<void> {
  const { record } = group.ledger;
  if (record === undefined || member.serial === undefined) return;
  const remaining = ({ filling = [] }: GroupRecord): Partial<GroupRecord> => ({
    filling: filling.filter((serial) => serial !== member.serial),
  });
  const deadline = group.port.now() + group.policy.hangAfter * READ_MULTIPLE + group.policy.writeHangAfter;
  yield* publish(group, remaining, deadline);
  member.role.endAdding();
  member.recovery.setOfGroup(true);
}
