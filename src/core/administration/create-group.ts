import { CKR } from '../../spec/codes.js';
import { mechanismName } from '../../spec/constants.js';
import { resultOf, step } from '../../spec/job.js';
import { refuse, TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { waitUntil } from '../base/waiting.js';
import { readingRecords, runOnMemberOrThrow } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { MemberJob } from '../jobs/member-job.js';
import { hex } from '../objects/note.js';
import { findRecords, foundIn } from '../records/ledger.js';
import { type GroupRecord, keyRecordTemplate, type MemberNote, membersBeyond, readRecord } from '../records/record.js';
import { generateDomainKey, installDomainKey, makeTransport } from '../wrapping/domain-key.js';
import { writeGroupRecord } from '../wrapping/membership-record.js';
import { removeOwn } from '../wrapping/removal.js';
import { checkStorage } from '../wrapping/storage-check.js';
import { type KeyTravel, probeWrapping } from '../wrapping/wrap-probe.js';

/** What was begun in vain is taken away again within so long (ms). */
const CLEAN_WITHIN = 15_000;

/** What a partition that has a group record already is to do with it. */
export type Existing = 'copy' | 'remove' | undefined;

/** What forming a group has found out. */
export interface FormationReport {
  readonly id: string;
  readonly label: string;
  readonly members: readonly { readonly name: string; readonly serial: string }[];
  /** The wrapping mechanism that was proven on all members. */
  readonly wrap: string;
  /** How keys travel, by key type; found out by round trips between the members. */
  readonly travels: Readonly<Record<string, KeyTravel>>;
  /** An existing group was adopted as it is. */
  readonly adopted: boolean;
}

/** Waits until no member is on its way any more. */
export function* awaitInService(group: Group, deadline: number): Task<void> {
  const isComing = (): boolean => group.members.some(({ state }) => state.name === 'joining');
  yield* waitUntil(group.port, [group.changed], () => !isComing(), deadline);
}

/** The same; throws unless all of them are there. */
export function* awaitAll(group: Group, deadline: number): Task<void> {
  const { members } = group;
  yield* awaitInService(group, deadline);
  const away = members.filter(({ isActive, state }) => !isActive && state.name !== 'standby');
  if (away.length > 0) refuse(CKR.deviceRemoved, `every member has to be there: ${group.describeMembers()}`);
}

/** Throws where a later version has written records: what they say is not known here, so nothing is taken away. */
export function checkNoneNewer(group: Group): void {
  if (group.members.some(({ connection }) => connection?.records?.newer === true))
    refuse(CKR.actionProhibited, 'a later version has written records there: this one does not write');
}

/** Throws where the members are not those of one group, and all of that: a record elsewhere would still name them. */
export function checkWhole({ members }: Group): void {
  const found = members.flatMap(({ name, connection }) => {
    const record = connection?.records?.group?.record;
    return record === undefined ? [] : [{ name, record }];
  });
  if (new Set(found.map(({ record }) => record.id)).size > 1) {
    const names = found.map(({ name, record }) => `${name} is of ${record.label}`).join(', ');
    refuse(CKR.actionProhibited, `the members are not of one group: ${names}`);
  }
  const latest = found.map(({ record }) => record).sort((one, other) => other.revision - one.revision)[0];
  const others = membersBeyond(
    latest,
    members.map(({ serial }) => serial),
  );
  if (others.length > 0) {
    const names = others.map(({ name, serial }) => `${name} (serial ${serial})`).join(', ');
    refuse(CKR.actionProhibited, `${names} of this group would be left with its records: remove it, or configure it`);
  }
}

/** A group that was formed, and the ids of the keys and records that were made for it. */
export interface Formation {
  readonly report: FormationReport;
  readonly made: ReadonlySet<string>;
}

/**
 * Looks, on hosts that have not taken part in forming it, whether a group is the only one of its members: hosts can
 * be blind to what another process writes at the same time. If it is not, its keys and records go again.
 */
export function* confirmGroup(group: Group, { report, made }: Formation, deadline: number): Task<FormationReport> {
  yield* awaitAll(group, deadline);
  try {
    for (const member of group.members) yield* checkOnlyOne(group, member, report.id, deadline);
    return report;
  } catch (error) {
    for (const member of group.members) yield* tryToRemove(group, member, made);
    throw error;
  }
}

/** Forms a group of members that are all in service; see createGroup. */
export function* createGroupOn(group: Group, existing: Existing, deadline: number): Task<Formation> {
  const { members } = group;
  yield* awaitAll(group, deadline);
  checkNoneNewer(group);
  const adopted = meetExisting(group, existing);
  if (adopted !== undefined) return { report: reportOf(adopted, {}, true), made: new Set() };
  for (const member of members) {
    // Without being told so nothing is removed: it may be what another process is just making.
    if (existing === 'remove') yield* removeOwn(group, member, deadline);
    else yield* checkUnused(group, member, deadline);
  }
  const made = new Set<string>();
  const newId = (size: number): Uint8Array => {
    const id = group.port.randomBytes(size);
    made.add(hex(id));
    return id;
  };
  try {
    for (const member of members) yield* checkStorage(group, member, deadline);
    const notes: MemberNote[] = [];
    for (const member of members) notes.push(yield* makeTransport(group, member, newId(8), deadline));
    const salt = group.port.randomBytes(32);
    const record = yield* makeDomainKey(group, { group: newId(16), domain: newId(8) }, salt, notes, deadline);
    group.adopt(record);
    const { wrap, travels, wrapsOddLengths } = yield* probeWrapping(group, deadline);
    const final: GroupRecord = { ...record, revision: 1, wrap, wrapsOddLengths };
    group.adopt(final);
    for (const member of members) yield* writeGroupRecord(group, member, final, deadline);
    return { report: reportOf(final, travels, false), made };
  } catch (error) {
    // Nothing of it stays: a partition with a record belongs to a group.
    const left: string[] = [];
    for (const member of members) if (!(yield* tryToRemove(group, member, made))) left.push(member.name);
    if (left.length === 0 || !(error instanceof TokenError)) throw error;
    throw new TokenError(
      error.code,
      error.method,
      `${error.message}; what was made on ${left.join(', ')} could not be removed: existing: 'remove' does`,
    );
  }
}

/** The first record of a group, whose domain key all members have. */
function* makeDomainKey(
  group: Group,
  ids: { readonly group: Uint8Array; readonly domain: Uint8Array },
  salt: Uint8Array,
  notes: readonly MemberNote[],
  deadline: number,
): Task<GroupRecord> {
  const [generatingMember] = group.members;
  if (generatingMember === undefined) refuse(CKR.deviceRemoved, 'there is no member');
  const { note, forms } = yield* generateDomainKey(group, generatingMember, ids.domain, salt, notes, deadline);
  for (const member of group.members) {
    const own = notes.find(({ serial }) => serial === member.serial);
    const form = forms.get(member.serial ?? '');
    if (own === undefined || form === undefined) refuse(CKR.deviceRemoved, `${member.name} has no transport key`);
    yield* installDomainKey(group, member, own, note, form, salt, deadline);
  }
  return {
    kind: 'group',
    id: hex(ids.group),
    label: group.label,
    revision: 0,
    salt: hex(salt),
    members: notes,
    domain: note,
    wrap: 0,
    wrapsOddLengths: false,
  };
}

/** Refuses a partition that holds a group's records although it did not seem to when it joined. */
function* checkUnused(group: Group, member: Member, deadline: number): Task<void> {
  const find: MemberJob = {
    function: 'C_FindObjects',
    objects: [],
    isReading: true,
    job: () => ({ steps: [findRecords, step('X_Find', keyRecordTemplate(), 1, [])] }),
  };
  const reply = yield* runOnMemberOrThrow(group, member, find, deadline);
  const isUsed = foundIn(reply, 0).length > 0 || resultOf(reply, 1, 'X_Find').length > 0;
  if (isUsed)
    refuse(
      CKR.actionProhibited,
      `${member.name} holds records of a group; existing: 'remove' takes them away and starts over`,
    );
}

/** Somebody else may have formed a group of the same partitions at the same time: then neither of them has. */
function* checkOnlyOne(group: Group, member: Member, id: string, deadline: number): Task<void> {
  for (const { attributes } of foundIn(yield* runOnMemberOrThrow(group, member, readingRecords, deadline), 0)) {
    const found = readRecord(attributes[0]?.value ?? new Uint8Array());
    if (found === 'newer' || (found?.kind === 'group' && found.id !== id))
      refuse(CKR.actionProhibited, `another group was formed of ${member.name} at the same time`);
  }
}

function reportOf(
  record: GroupRecord,
  travels: Readonly<Record<string, KeyTravel>>,
  adopted: boolean,
): FormationReport {
  const { id, label, members, wrap } = record;
  return {
    id,
    label,
    members: members.map(({ name, serial }) => ({ name, serial })),
    wrap: mechanismName(wrap),
    travels,
    adopted,
  };
}

/** The group that the partitions belong to already, if that is to be adopted. */
function meetExisting(group: Group, existing: Existing): GroupRecord | undefined {
  const found = group.members.flatMap((member) => {
    const record = member.connection?.records?.group?.record;
    return record === undefined ? [] : [{ member, record }];
  });
  const [first] = found;
  if (first === undefined || existing === 'remove') return undefined;
  const names = found.map(({ member, record }) => `${member.name} (group ${record.label})`).join(', ');
  if (existing !== 'copy') {
    refuse(
      CKR.actionProhibited,
      `these members have a group record already: ${names}; existing: 'copy' adopts that group as it is, 'remove' starts over`,
    );
  }
  const { record } = first;
  const isWhole =
    found.length === group.members.length &&
    found.every((each) => each.record.id === record.id) &&
    group.members.every(({ serial }) => record.members.some((note) => note.serial === serial));
  if (!isWhole) refuse(CKR.actionProhibited, `only a group that all members belong to can be adopted: ${names}`);
  return record;
}

/** Cleans up with a time of its own, also on a member that was lost and is coming back; false when it cannot. */
function* tryToRemove(group: Group, member: Member, made: ReadonlySet<string>): Task<boolean> {
  const until = group.port.now() + CLEAN_WITHIN;
  try {
    yield* waitUntil(group.port, [group.changed], () => member.isServing, until);
    yield* removeOwn(group, member, until, made);
    return true;
  } catch {
    return false;
  }
}
