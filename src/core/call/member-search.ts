import type { Attribute } from '../../spec/attribute.js';
import { NO_MAXIMUM } from '../../spec/calls.js';
import { sameBytes } from '../base/bytes.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { isInStep } from '../group/in-step.js';
import { type Failure, failureOf, isFailure, PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { aliasIn, learnMissedChanges, learnSomeRecords } from '../group/record-learning.js';
import { noCodes, type Operation } from '../jobs/operation.js';
import { renewLogin } from '../joining/login-renewal.js';
import type { Alias } from '../objects/alias-table.js';
import type { FoundReplica } from '../objects/found-object.js';
import { isReserved } from '../objects/identity.js';
import { hex } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import {
  findGroupwide,
  findRecords,
  foundIn,
  MOST_RECORDS,
  type RecordsFound,
  recordsAt,
  recordsIn,
} from '../records/ledger.js';
import { FIRST_FORMAT } from '../records/record.js';
import { completeInventory, findJob, readAgain } from '../replicas/inventory.js';
import { Attempt } from './attempt.js';
import type { AttemptEnd } from './attempt-end.js';
import { countByDigest, isRecordedKey, newKeysIn, readKeyAliases } from './key-alias-reading.js';
import { ObjectMapping } from './object-mapping.js';

/** Maximum number of times that aliases are read while names change; then the member is searched anew. */
const MOST_READINGS = 8;

/** Find on one member: an attempt, then the mapping of found objects to virtual objects. */
export class MemberSearch extends PendingWork {
  attempt: Attempt;
  mapping: ObjectMapping;
  /** Records of the member, if the search read them. */
  records: RecordsFound | undefined;
  /** Result; undefined until the search has succeeded. */
  objects: readonly VirtualObject[] | undefined;
  end: AttemptEnd | undefined;
  /** True if the member had every confirmed change of the group when the search began, as far as anybody knows. */
  readonly isInStep: boolean;

  constructor(
    readonly group: Group,
    readonly member: Member,
    readonly connection: Connection,
  ) {
    super();
    this.attempt = new Attempt(member, connection, group);
    this.mapping = new ObjectMapping(group, member, connection, this);
    this.isInStep = isInStep(group, member);
  }

  *run(template: readonly Attribute[], deadline: number): Task<void> {
    try {
      yield* this.#search(template, deadline);
      if (!this.#hasLostSession) return;
      // If the login was lost between the find and the mapping, the search starts over on a new session, once.
      const renewal = renewLogin(this.group, this.member, this.connection);
      yield* this.follow(renewal);
      if (renewal.failure !== undefined) return;
      this.attempt = new Attempt(this.member, this.connection, this.group);
      this.mapping = new ObjectMapping(this.group, this.member, this.connection, this);
      yield* this.#search(template, deadline);
    } finally {
      this.attempt.cancel();
      this.complete();
    }
  }

  get #hasLostSession(): boolean {
    return this.attempt.end?.kind === 'ok' && this.end?.kind === 'code' && this.end.verdict === 'session';
  }

  *#search(template: readonly Attribute[], deadline: number): Task<void> {
    const { attempt, group, connection } = this;
    this.epoch = connection.epoch;
    attempt.start(findOperation(template, group.readsRecords), deadline);
    while (!attempt.completed) {
      yield* race([attempt], deadline);
      if (attempt.late) this.markLate();
      if (group.port.now() >= deadline) return;
    }
    this.end = attempt.end;
    if (attempt.end?.kind !== 'ok') return;
    // The attempt may have renewed the login.
    this.epoch = attempt.executedIn;
    if (attempt.end.reply.results.length > 1) {
      const records = recordsAt(group.ledger.trust, attempt.end.reply, 1);
      this.records = records;
      group.invalidRecords.note(this.member, 'groupwide', records.invalid);
      group.invalidRecords.note(this.member, 'refused', records.refused);
      group.invalidRecords.note(this.member, 'cut', records.isCut ? MOST_RECORDS : 0);
      learnMissedChanges(group, this.member, records);
      const seen = records.group?.record.revision ?? -1;
      if (seen > this.member.recovery.revision) this.member.recovery.noteRevision(seen);
      for (const { record } of records.aliases) group.objects.addAlias(aliasIn(record));
    }
    const inventory = yield* completeInventory(connection, attempt.end.reply, deadline, this);
    const objects = inventory.kind === 'objects' ? yield* this.#toVirtual(inventory.objects, deadline) : inventory;
    if (isFailure(objects)) this.end = attempt.judged(objects);
    else this.objects = objects;
  }

  /**
   * Maps found objects to virtual objects. Aliases must be of the same time as the names that they belong to: a rename
   * writes the new alias first and removes the old alias last. So objects that have no alias are read again, until
   * their names stay. Objects that were made since have no place in the answer.
   */
  *#toVirtual(found: readonly FoundReplica[], deadline: number): Task<readonly VirtualObject[] | Failure> {
    const { group, connection, mapping } = this;
    mapping.records = this.records;
    let objects = found;
    for (let tries = 1; needsAliases(group, connection, objects); tries += 1) {
      if (tries > MOST_READINGS) return { kind: 'withdrawn' };
      const isRead = mapping.records !== undefined && tries === 1 && group.ledger.format <= FIRST_FORMAT;
      const failure = isRead ? undefined : yield* this.#readAliases(objects, deadline);
      if (failure !== undefined) return failure;
      const unnamed = this.#unnamedIn(objects);
      if (unnamed.length === 0) break;
      const again = yield* readAgain(connection, unnamed, deadline, this);
      if (isFailure(again)) return again;
      const left = new Set(unnamed);
      objects = [...objects.filter((each) => !left.has(each)), ...again];
      // A key record that was being replaced shows at the second reading.
      const isCertain = tries > 1 || !unnamed.some((each) => isRecordedKey(group, each));
      if (isCertain && areNamedAsBefore(unnamed, again)) break;
    }
    return yield* mapping.toVirtual(objects);
  }

  /** Reads the aliases, and the key records of found objects whose real handle is new on this connection. */
  *#readAliases(objects: readonly FoundReplica[], deadline: number): Task<Failure | undefined> {
    const { group, connection, mapping } = this;
    const outcome = yield* connection.run({ steps: [findGroupwide] }, 'find', deadline, this);
    const failure = failureOf(outcome);
    if (failure !== undefined || outcome.kind !== 'reply') return failure ?? { kind: 'withdrawn' };
    const records = recordsIn(group.ledger.trust, foundIn(outcome.reply, 0));
    mapping.records = records;
    group.invalidRecords.note(this.member, 'groupwide', records.invalid);
    learnSomeRecords(group, [records]);
    const digests = newKeysIn(group, connection, objects).map(({ identity }) => group.objects.digestOf(identity));
    const identities = [...new Set(digests)];
    const aliases = yield* readKeyAliases(group, connection, identities, countByDigest(group, objects), deadline, this);
    if (isFailure(aliases)) return aliases;
    mapping.keyAliases = aliases;
    const byIdentity = new Map<string, Alias[]>(identities.map((identity) => [identity, []]));
    for (const alias of aliases) byIdentity.get(alias.identity)?.push(alias);
    for (const [identity, own] of byIdentity) group.objects.replaceAliases(own, identity);
    return undefined;
  }

  /** Returns the objects, new to this process, whose identity has another number of aliases than of objects. */
  #unnamedIn(found: readonly FoundReplica[]): readonly FoundReplica[] {
    const { group, connection, mapping } = this;
    const recorded = mapping.records?.aliases.map(({ record }) => record) ?? [];
    const handles = new Map<string, Set<number>>();
    for (const { identity, handle } of [...recorded, ...mapping.keyAliases])
      handles.set(identity, (handles.get(identity) ?? new Set()).add(handle));
    const counts = countByDigest(group, found);
    const newKeys = new Set(newKeysIn(group, connection, found));
    return found.filter((each) => {
      if (isRecordedKey(group, each) ? !newKeys.has(each) : recorded.length === 0 || !isNamable(each)) return false;
      const digest = group.objects.digestOf(each.identity);
      const count = counts.get(digest) ?? 0;
      const isAlone = count === 1 && group.objects.withIdentity(each.identity).length > 0;
      if (!isRecordedKey(group, each) && isAlone) return false;
      return (handles.get(digest)?.size ?? 0) !== count;
    });
  }
}

/** Returns true if aliases can name an object: it is an application's token object. */
function isNamable({ description }: FoundReplica): boolean {
  return description.token && !isReserved(description.label);
}

/**
 * Returns true if only aliases, which this process may not have read yet, tell the handles of found objects: twins,
 * copies, and objects that are new to this process, since another process may have renamed them.
 */
function needsAliases(group: Group, connection: Connection, found: readonly FoundReplica[]): boolean {
  if (group.ledger.record === undefined) return false;
  if (newKeysIn(group, connection, found).length > 0) return true;
  if (found.some((each) => isNamable(each) && group.objects.withIdentity(each.identity).length === 0)) return true;
  const counts = new Map<string, { readonly identity: Uint8Array; count: number }>();
  for (const each of found) {
    if (!isNamable(each)) continue;
    const { identity } = each;
    const key = Buffer.from(identity).toString('latin1');
    const counted = counts.get(key) ?? { identity, count: 0 };
    counted.count += 1;
    counts.set(key, counted);
  }
  return [...counts.values()].some(({ identity, count }) => {
    const known = group.objects.aliasesOf(identity).length;
    return count !== known && (count > 1 || group.objects.isTwinned(identity));
  });
}

/** Returns true if all objects that are still there have the identities that they had before. */
function areNamedAsBefore(before: readonly FoundReplica[], after: readonly FoundReplica[]): boolean {
  const identities = new Map(before.map(({ handle, identity }) => [hex(handle), identity]));
  return after.every(({ handle, identity }) => sameBytes(identities.get(hex(handle)) ?? new Uint8Array(), identity));
}

/** Makes the operation that finds objects on a member; `readsRecords` adds the group's records. */
function findOperation(template: readonly Attribute[], readsRecords: boolean): Operation<undefined> {
  return {
    function: 'C_FindObjects',
    objects: [],
    mechanism: undefined,
    aspect: 'pure',
    kind: 'find',
    results: noCodes,
    job: () => {
      const job = findJob(template, NO_MAXIMUM);
      return readsRecords ? { steps: [...job.steps, ...findRecords] } : job;
    },
    read: () => undefined,
  };
}
