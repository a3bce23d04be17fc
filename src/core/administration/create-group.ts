import { CKR } from '../../spec/codes.js';
import { mechanismName } from '../../spec/constants.js';
import { step } from '../../spec/job.js';
import { refuse, TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { waitUntil } from '../base/waiting.js';
import { readingRecords, runOnMemberOrThrow } from '../call/member-job-run.js';
import { awaitComing } from '../group/coming.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { MemberJob } from '../jobs/member-job.js';
import { hex } from '../objects/note.js';
import { findGroupwide, foundIn } from '../records/ledger.js';
import { FORMAT, type GroupRecord, type MemberNote, membersBeyond } from '../records/record.js';
import { readRecord } from '../records/record-schema.js';
import { keyRecordTemplate } from '../records/record-template.js';
import { installDomainKey } from '../wrapping/domain-installation.js';
import { generateDomainKey, makeTransport } from '../wrapping/domain-key.js';
import { writeGroupRecord } from '../wrapping/group-record-publication.js';
import { sign } from '../wrapping/group-record-signature.js';
import { removeOwn } from '../wrapping/removal.js';
import { checkStorage } from '../wrapping/storage-check.js';
import { type KeyTravel, probeWrapping } from '../wrapping/wrap-probe.js';

/** Deadline for removing, from one member, what an attempt that failed has written (ms). */
const CLEAN_WITHIN = 15_000;

/** Treatment of members that already have a group record: adopt that group, or remove it. Undefined: refuse. */
export type Existing = 'copy' | 'remove' | undefined;

/** Result of `createGroup`. */
export interface FormationReport {
  readonly id: string;
  readonly label: string;
  readonly members: readonly { readonly name: string; readonly serial: string }[];
  /** Name of the wrapping mechanism that all members were shown to have. */
  readonly wrap: string;
  /** Way in which keys get from member to member, by key type; found by round trips between the members. */
  readonly travels: Readonly<Record<string, KeyTravel>>;
  /** True if an existing group was adopted as it is. */
  readonly adopted: boolean;
  /** Public administration key that has signed the group's record, in hexadecimal; undefined if it is not signed. */
  readonly administrationKey: string | undefined;
}

/** Waits while members are on their way into service; throws unless all members are active or standby. */
export function* awaitAll(group: Group, deadline: number): Task<void> {
  const { members } = group;
  yield* awaitComing(group, group.members, deadline);
  const away = members.filter(({ isActive, state }) => !isActive && state.name !== 'standby');
  if (away.length > 0) refuse(CKR.deviceRemoved, `not every member is in service: ${group.describeMembers()}`);
}

/** Throws if a later version has written records: this version cannot read them, and so removes nothing. */
export function checkNoneNewer(group: Group): void {
  if (group.members.some(({ connection }) => connection?.records?.newer === true))
    refuse(CKR.actionProhibited, 'a later version of pkcs11-ha has written records: this version does not write');
}

/** Throws unless the members are all members of one group: a record on another token would still name them. */
export function checkWhole({ members }: Group): void {
  const found = members.flatMap(({ name, connection }) => {
    const record = connection?.records?.group?.record;
    return record === undefined ? [] : [{ name, record }];
  });
  if (new Set(found.map(({ record }) => record.id)).size > 1) {
    const names = found.map(({ name, record }) => `${name} to ${record.label}`).join(', ');
    refuse(CKR.actionProhibited, `the members belong to different groups: ${names}`);
  }
  const latest = found.map(({ record }) => record).sort((one, other) => other.revision - one.revision)[0];
  const others = membersBeyond(
    latest,
    members.map(({ serial }) => serial),
  );
  if (others.length > 0) {
    const names = others.map(({ name, serial }) => `${name} (serial ${serial})`).join(', ');
    refuse(
      CKR.actionProhibited,
      `${names} would keep records of this group: remove that member first, or add it to the configuration`,
    );
  }
}

/** Group that was created, with the ids of the keys and records that were made for it. */
interface Formation {
  readonly report: FormationReport;
  readonly made: ReadonlySet<string>;
}

/**
 * Checks, on fresh hosts, that no other process has created a group on the same tokens: hosts that were running can be
 * blind to what another process writes. If there is another group, removes the keys and records of this group.
 */
export function* confirmGroup(group: Group, { report, made }: Formation, deadline: number): Task<FormationReport> {
  yield* awaitAll(group, deadline);
  try {
    for (const member of group.members) yield* checkOnlyOne(group, member, report.id, deadline);
    return report;
  } catch (error) {
    for (const member of group.members) yield* tryToRemove(group, member, made);
    if (!report.adopted) group.port.authority.discard(report.id);
    throw error;
  }
}

/** Creates a group of members that are all in service; see `createGroup`. */
export function* createGroupOn(group: Group, existing: Existing, deadline: number): Task<Formation> {
  yield* awaitAll(group, deadline);
  checkNoneNewer(group);
  const adopted = adoptableRecord(group, existing);
  if (adopted !== undefined) return { report: reportOf(adopted, {}, true), made: new Set() };
  const id = group.port.randomBytes(16);
  const problem = group.port.authority.prepare(hex(id));
  if (problem !== undefined) refuse(CKR.actionProhibited, problem);
  try {
    return yield* formGroup(group, id, existing, deadline);
  } catch (error) {
    group.port.authority.discard(hex(id));
    throw error;
  }
}

/** Makes the keys and records of a group; leaves none of them behind if that fails. */
function* formGroup(group: Group, groupId: Uint8Array, existing: Existing, deadline: number): Task<Formation> {
  const { members } = group;
  for (const member of members) {
    // Remove only if told to: another process may be creating a group at this moment.
    if (existing === 'remove') yield* removeOwn(group, member, deadline);
    else yield* checkUnused(group, member, deadline);
  }
  const made = new Set<string>([hex(groupId)]);
  const newId = (size: number): Uint8Array => {
    const id = group.port.randomBytes(size);
    made.add(hex(id));
    return id;
  };
  try {
    let scansKeyRecords = false;
    for (const member of members) if (!(yield* checkStorage(group, member, deadline))) scansKeyRecords = true;
    const notes: MemberNote[] = [];
    for (const member of members) notes.push(yield* makeTransport(group, member, newId(8), deadline));
    const salt = group.port.randomBytes(32);
    const record = yield* makeDomainKey(group, { group: groupId, domain: newId(8) }, salt, notes, deadline);
    group.adopt(record);
    const { wrap, travels, wrapsOddLengths } = yield* probeWrapping(group, deadline);
    const proven = { ...record, ...(scansKeyRecords ? { scansKeyRecords } : {}), wrap, wrapsOddLengths };
    const final = yield* sign(group, { ...proven, revision: 1, sequence: 1 }, deadline);
    group.adopt(final);
    for (const member of members) yield* writeGroupRecord(group, member, final, deadline);
    return { report: reportOf(final, travels, false), made };
  } catch (error) {
    // Remove all that was written: a token with a record would belong to a group.
    const left: string[] = [];
    for (const member of members) if (!(yield* tryToRemove(group, member, made))) left.push(member.name);
    if (left.length === 0 || !(error instanceof TokenError)) throw error;
    throw new TokenError(
      error.code,
      error.method,
      `${error.message}; what was written on ${left.join(', ')} could not be removed; existing: 'remove' removes it`,
    );
  }
}

/** Generates a domain key, installs it on all members, and returns the first record of the group. */
function* makeDomainKey(
  group: Group,
  ids: { readonly group: Uint8Array; readonly domain: Uint8Array },
  salt: Uint8Array,
  notes: readonly MemberNote[],
  deadline: number,
): Task<GroupRecord> {
  const [generatingMember] = group.members;
  if (generatingMember === undefined) refuse(CKR.deviceRemoved, 'the group has no member');
  const { note, forms } = yield* generateDomainKey(group, generatingMember, ids.domain, salt, notes, deadline);
  for (const member of group.members) {
    const own = notes.find(({ serial }) => serial === member.serial);
    const form = forms.get(member.serial ?? '');
    if (own === undefined || form === undefined) refuse(CKR.deviceRemoved, `${member.name} has no transport key`);
    yield* installDomainKey(group, member, { transport: own, note, form, salt }, deadline);
  }
  return {
    kind: 'group',
    format: FORMAT,
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

/** Throws if a token holds records or keys of a group that its host did not see when it joined. */
function* checkUnused(group: Group, member: Member, deadline: number): Task<void> {
  const find: MemberJob = {
    function: 'C_FindObjects',
    objects: [],
    isReading: true,
    job: () => ({ steps: [findGroupwide, step('X_Find', keyRecordTemplate(), 1, [])] }),
  };
  const reply = yield* runOnMemberOrThrow(group, member, find, deadline);
  const isUsed = foundIn(reply, 0).length > 0 || foundIn(reply, 1).length > 0;
  if (isUsed)
    refuse(
      CKR.actionProhibited,
      `${member.name} holds records of a group; existing: 'remove' removes them and starts over`,
    );
}

/** Throws if another process has created a group on the same token at the same time: then neither group stays. */
function* checkOnlyOne(group: Group, member: Member, id: string, deadline: number): Task<void> {
  for (const { attributes } of foundIn(yield* runOnMemberOrThrow(group, member, readingRecords, deadline), 0)) {
    const found = readRecord(attributes[0]?.value ?? new Uint8Array());
    if (found === 'newer' || (typeof found === 'object' && found.kind === 'group' && found.id !== id))
      refuse(CKR.actionProhibited, `another process created a group on ${member.name} at the same time`);
  }
}

function reportOf(
  record: GroupRecord,
  travels: Readonly<Record<string, KeyTravel>>,
  adopted: boolean,
): FormationReport {
  const { id, label, members, wrap, signature } = record;
  return {
    id,
    label,
    members: members.map(({ name, serial }) => ({ name, serial })),
    wrap: mechanismName(wrap),
    travels,
    adopted,
    administrationKey: signature?.key,
  };
}

/** Returns the record of the group that all members already belong to, if that group is to be adopted. */
function adoptableRecord(group: Group, existing: Existing): GroupRecord | undefined {
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
      `these members already have a group record: ${names}; existing: 'copy' adopts that group as it is, 'remove' starts over`,
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

/** Removes what was written on a member, after waiting for a member that was lost; returns true if that succeeded. */
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
