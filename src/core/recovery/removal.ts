import { type FoundObject, NO_MAXIMUM } from '../../spec/calls.js';
import { resultOf, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { readingRecords, runOnMember } from '../call/member-job-run.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { isFailure, PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { aliasIn, keyAliasesIn } from '../group/record-learning.js';
import { isSecretRequest } from '../jobs/creation-request.js';
import { JobBuilder } from '../jobs/job-builder.js';
import { findingJob, type MemberJob } from '../jobs/member-job.js';
import type { Alias } from '../objects/alias-table.js';
import type { FoundReplica } from '../objects/found-object.js';
import { isProvenByIdentity } from '../objects/identity.js';
import type { KeyRecord } from '../objects/key-note.js';
import { noteObject } from '../objects/note.js';
import { areOfOneKey, type VirtualObject } from '../objects/object.js';
import { findGroupwide, foundIn, recordsIn } from '../records/ledger.js';
import { type ChangeRecord, FIRST_FORMAT } from '../records/record.js';
import { readRecord } from '../records/record-schema.js';
import { keyRecordSearch } from '../records/record-template.js';
import { destroyedAt, keyRecordTypes, tombstoneLabel } from '../records/tombstone.js';
import { pickCopy, readUses } from '../replicas/copies.js';
import { compare } from '../replicas/fingerprint.js';
import { candidatesOn } from '../replicas/inventory.js';
import { keepRecord, readKeyRecord } from '../replicas/key-record.js';
import { addRecordRemoval, addTombstone } from '../replication/destruction.js';

/** Removal of objects from members, for a change that destroys them or undoes their creation. */
export class Removal {
  readonly group: Group;
  readonly #limit: () => number;

  /** `limit` returns the deadline of a step that begins now. */
  constructor(group: Group, limit: () => number) {
    this.group = group;
    this.#limit = limit;
  }

  /**
   * Removes an object from a member; returns true if the object is gone. A replica goes only if it is proven to be the
   * object. If a creation is undone, an object that a later call made stays. If the member had objects of equal
   * identity before, only a surplus goes: better a copy too many than a lost key.
   */
  *remove(object: VirtualObject, record: ChangeRecord, member: Member): Task<boolean> {
    const { group } = this;
    const { connection } = member;
    if (connection === undefined) return false;
    const work = new PendingWork();
    work.epoch = connection.epoch;
    const candidates = yield* candidatesOn(connection, object, work);
    if (candidates.kind !== 'candidates') return false;
    const matches = yield* this.#matching(object, record, connection, candidates.list, work);
    if (matches === undefined) return false;
    const builder = new JobBuilder();
    const isUncertain = record.undoes === true && !record.alone;
    const going = isUncertain
      ? yield* this.#surplus(record, object, member, candidates.list.length, matches)
      : yield* this.#ownAmong(object, member, matches);
    if (going === undefined) return false;
    const isOwnRecord = record.undoes !== true ? true : yield* isRecordedBy(record, object, member);
    if (isOwnRecord === undefined) return false;
    const mayGo = isUncertain ? going.length > 0 : isOwnRecord;
    const match = yield* pickCopy(connection, object, going, work);
    if (match !== undefined && 'kind' in match) return false;
    if (match !== undefined && mayGo) builder.add(step('C_DestroyObject', match.handle));
    // The record of a key that is not there would make others look for the key again and again.
    const mayGoRecord = mayGo || (isUncertain && isOwnRecord && isKeyed(group, object));
    // A creation that is undone leaves no tombstone: the key has never been there.
    if (mayGoRecord && record.undoes !== true) yield* this.#learnRecord(object, connection);
    if (mayGoRecord && record.undoes === true) addRecordRemoval(group, object, builder);
    else if (mayGoRecord) addTombstone(group, object, builder);
    if (builder.steps.length === 0) return true;
    const login = { connection, epoch: work.epoch };
    const memberJob: MemberJob = {
      function: 'C_DestroyObject',
      objects: [],
      login,
      job: () => ({ steps: builder.steps }),
    };
    const end = yield* runOnMember(group, member, memberJob, this.#limit());
    if (end.kind === 'done' && match !== undefined) connection.survey?.found.remove(object.identity, match.handle);
    return end.kind === 'done';
  }

  /**
   * Leaves a tombstone on a member that had no record of a destroyed key: else the key would come back to it from a
   * member that has not heard of the destroy yet. Returns true if the member has one.
   */
  *leaveTombstone(object: VirtualObject, { operation, writer, time }: ChangeRecord, member: Member): Task<boolean> {
    const { group } = this;
    if (!isKeyed(group, object)) return true;
    const standing = yield* keyRecordsUnder(group, object, member, this.#limit());
    if (standing === undefined || standing.length > 0) return standing !== undefined;
    const identity = group.objects.digestOf(object.identity);
    const note = noteObject(object);
    const bare: KeyRecord = {
      ...{ kind: 'key', note, identity, template: [], answers: [], sealed: undefined, operation, writer, time },
    };
    const builder = new JobBuilder();
    builder.addRecordIfRoom(bare, tombstoneLabel(object.handle, time));
    const job = { function: 'C_DestroyObject', objects: [], job: () => ({ steps: builder.steps }) };
    return (yield* runOnMember(group, member, job, this.#limit())).kind === 'done';
  }

  /** Reads the key record that becomes the tombstone. */
  *#learnRecord(object: VirtualObject, connection: Connection): Task<void> {
    if (object.record !== undefined && object.record !== null) return;
    const read = yield* readKeyRecord(connection, object.handle);
    if (read.kind === 'record') keepRecord(object, read.record);
  }

  /** Returns the candidates that are replicas of the object; undefined if one of them could not be compared. */
  *#matching(
    object: VirtualObject,
    record: ChangeRecord,
    connection: Connection,
    candidates: readonly FoundReplica[],
    work: PendingWork,
  ): Task<readonly FoundReplica[] | undefined> {
    const matches: FoundReplica[] = [];
    for (const candidate of candidates) {
      const comparison = isProvenByIdentity(object.description)
        ? 'same'
        : yield* compare(this.group, connection, object, candidate, work);
      // A candidate that could not be asked may be the object.
      if (typeof comparison !== 'string') return undefined;
      const isOnlyOne = comparison === 'unknown' && candidates.length === 1 && record.undoes !== true;
      if (comparison === 'same' || isOnlyOne) matches.push(candidate);
    }
    return matches;
  }

  /**
   * Returns the matches if the member has more of them than before the call and more than aliases name: objects that
   * later calls made have an alias. Copies of one key with equal usage flags are interchangeable, so any may go.
   * Returns none if there is no surplus, undefined if the member could not be asked.
   */
  *#surplus(
    { before }: ChangeRecord,
    object: VirtualObject,
    member: Member,
    count: number,
    matches: readonly FoundReplica[],
  ): Task<readonly FoundReplica[] | undefined> {
    const { connection } = member;
    if (connection === undefined) return undefined;
    if (before === undefined || count <= before) return [];
    const uses = yield* readUses(connection, matches, new PendingWork());
    if (isFailure(uses)) return undefined;
    const alike = matches.filter((_match, index) => object.use === undefined || uses[index] === object.use);
    const aliases = yield* this.#aliasesOn(member, object);
    if (aliases === undefined) return undefined;
    const named = aliases.filter(
      ({ handle, use, proofs }) =>
        handle !== object.handle &&
        (object.use === undefined || use === object.use) &&
        areOfOneKey(proofs, object.reference),
    );
    return alike.length > new Set(named.map(({ handle }) => handle)).size ? alike : [];
  }

  /** Returns the matches, or none if other records name all of them; undefined if the member could not be asked. */
  *#ownAmong(
    object: VirtualObject,
    member: Member,
    matches: readonly FoundReplica[],
  ): Task<readonly FoundReplica[] | undefined> {
    if (!isKeyed(this.group, object) || matches.length === 0) return matches;
    const aliases = yield* this.#aliasesOn(member, object);
    const others = aliases?.filter(
      ({ handle, proofs }) => handle !== object.handle && areOfOneKey(proofs, object.reference),
    );
    if (others === undefined) return undefined;
    return matches.length > new Set(others.map(({ handle }) => handle)).size ? matches : [];
  }

  /** Reads the aliases that alias records and key records on a member give to objects of the identity. */
  *#aliasesOn(member: Member, { identity }: VirtualObject): Task<readonly Alias[] | undefined> {
    const digest = this.group.objects.digestOf(identity);
    const steps = [
      findGroupwide,
      step('X_Find', keyRecordSearch(this.group.ledger.record, digest), NO_MAXIMUM, keyRecordTypes),
    ];
    const reading: MemberJob = { ...readingRecords, job: () => ({ steps }) };
    const end = yield* runOnMember(this.group, member, reading, this.#limit());
    if (end.kind !== 'done') return undefined;
    const recorded = recordsIn(this.group.ledger.trust, foundIn(end.reply, 0)).aliases.map(({ record }) =>
      aliasIn(record),
    );
    return [...recorded, ...keyAliasesIn(foundIn(end.reply, 1))].filter((alias) => alias.identity === digest);
  }
}

/** Returns true if the handle of the object stands in its key record. */
export function isKeyed({ ledger }: Group, { description }: VirtualObject): boolean {
  return ledger.format > FIRST_FORMAT && isSecretRequest(description);
}

/**
 * Returns whether the object's key record on a member is of that call, or the member has no key record; undefined if that
 * could not be read.
 */
function* isRecordedBy(
  { operation }: ChangeRecord,
  object: VirtualObject,
  { connection }: Member,
): Task<boolean | undefined> {
  if (connection === undefined) return undefined;
  const read = yield* readKeyRecord(connection, object.handle);
  if (read.kind !== 'record') return undefined;
  return read.record === undefined || read.record.operation === operation;
}

/** Returns the key records and tombstones of a key's handle that a member has under a name; undefined if it does not tell. */
function* keyRecordsUnder(
  group: Group,
  object: VirtualObject,
  member: Member,
  deadline: number,
): Task<readonly FoundObject[] | undefined> {
  const search = keyRecordSearch(group.ledger.record, group.objects.digestOf(object.identity));
  const found = yield* runOnMember(group, member, findingJob(search, NO_MAXIMUM, keyRecordTypes), deadline);
  if (found.kind !== 'done') return undefined;
  return resultOf(found.reply, 0, 'X_Find').filter(({ attributes: [value] }) => {
    const record = readRecord(value?.value ?? new Uint8Array());
    return typeof record === 'object' && record.kind === 'key' && record.note.handle === object.handle;
  });
}

/** Returns true if a member has a tombstone of a key, given under each of its names. */
export function* hasTombstone(
  group: Group,
  names: readonly VirtualObject[],
  member: Member,
  deadline: () => number,
): Task<boolean> {
  for (const object of names) {
    const standing = yield* keyRecordsUnder(group, object, member, deadline());
    if (standing?.some(({ attributes: [, label] }) => destroyedAt(label?.value) !== undefined) === true) return true;
  }
  return false;
}
