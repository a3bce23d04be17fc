import { type FoundObject, NO_MAXIMUM } from '../../spec/calls.js';
import { CKA } from '../../spec/codes.js';
import { step } from '../../spec/job.js';
import { sameBytes } from '../base/bytes.js';
import type { Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { type Failure, isFailure, type PendingWork, replyOrFailure } from '../group/job-outcome.js';
import { keyAliasesIn } from '../group/record-learning.js';
import { isSecretRequest } from '../jobs/creation-request.js';
import type { Alias } from '../objects/alias-table.js';
import type { FoundReplica } from '../objects/found-object.js';
import { isReserved } from '../objects/identity.js';
import { hex } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import { foundIn } from '../records/ledger.js';
import { FIRST_FORMAT } from '../records/record.js';
import { handleInLabel, keyRecordsOfIdentity, keyRecordTemplate, SHOWN_DIGEST } from '../records/record-template.js';
import { keyRecordTypes } from '../records/tombstone.js';

/** Number of identities up to which their key records are searched one by one, each in a search of the token. */
const MOST_SEARCHES = 16;
/** Number of searches in one job. */
const BATCH = 16;
/** Attributes that name the keys of all records, at less cost than their values. */
const nameTypes: readonly number[] = [CKA.label, CKA.objectId];

/** Returns true if a found object is a key whose handle stands in its key record, if it has one. */
export function isRecordedKey({ ledger }: Group, { description }: FoundReplica): boolean {
  const isOfGroup = ledger.format > FIRST_FORMAT && description.token && !isReserved(description.label);
  return isOfGroup && isSecretRequest(description);
}

/** Returns the virtual object that a real handle was mapped to with that identity; undefined if it was not met. */
export function metAs(connection: Connection, { handle, identity }: FoundReplica): VirtualObject | undefined {
  const known = connection.named.get(hex(handle));
  return known === undefined || known.isDestroyed || !sameBytes(known.identity, identity) ? undefined : known;
}

/** Returns the keys whose real handle was not met on a connection with that identity. */
export function newKeysIn(
  group: Group,
  connection: Connection,
  found: readonly FoundReplica[],
): readonly FoundReplica[] {
  return found.filter((each) => isRecordedKey(group, each) && metAs(connection, each) === undefined);
}

/** Counts objects by the digest of their identity. */
export function countByDigest({ objects }: Group, found: readonly FoundReplica[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { identity } of found) {
    const digest = objects.digestOf(identity);
    counts.set(digest, (counts.get(digest) ?? 0) + 1);
  }
  return counts;
}

/**
 * Reads the aliases that key records on a member give to keys of identities, given by their digests, with the numbers
 * of objects that were found. For a few keys their records are searched; for many, the names of all records are read,
 * and values only of keys of one identity.
 */
export function* readKeyAliases(
  group: Group,
  connection: Connection,
  identities: readonly string[],
  counts: ReadonlyMap<string, number>,
  deadline: number,
  work: PendingWork,
): Task<readonly Alias[] | Failure> {
  if (identities.length === 0) return [];
  const search = new KeyRecordSearch(connection, deadline, work);
  if (group.ledger.record?.scansKeyRecords === true) {
    const all = yield* search.run([step('X_Find', keyRecordTemplate(), NO_MAXIMUM, keyRecordTypes)]);
    return isFailure(all) ? all : keyAliasesIn(all);
  }
  if (identities.length <= MOST_SEARCHES) return yield* search.valuesOf(identities);
  const named = yield* search.run([step('X_Find', keyRecordTemplate(), NO_MAXIMUM, nameTypes)]);
  if (isFailure(named)) return named;
  const handles = handlesByDigest(named);
  const shared: string[] = [];
  const aliases: Alias[] = [];
  for (const identity of identities) {
    const [handle, other] = handles.get(identity.slice(0, SHOWN_DIGEST)) ?? [];
    const known = handle === undefined ? undefined : group.objects.aliasOf(handle);
    const isNews = known !== undefined && known.identity !== identity;
    // Proofs tell keys of one identity apart, and the time tells which name of a key is the newer one.
    if (other !== undefined || isNews || (counts.get(identity) ?? 0) > 1) shared.push(identity);
    // The record's own proofs are read when the key is used; until then any record that was read counts as newer.
    else if (handle !== undefined)
      aliases.push({ handle, identity, proofs: new Map(), use: undefined, time: 0, isOfKey: true });
  }
  const others = yield* search.valuesOf(shared);
  return isFailure(others) ? others : [...aliases, ...others];
}

/** Search for key records on one connection. */
class KeyRecordSearch {
  constructor(
    readonly connection: Connection,
    readonly deadline: number,
    readonly work: PendingWork,
  ) {}

  *run(steps: readonly ReturnType<typeof step>[]): Task<readonly FoundObject[] | Failure> {
    const reply = replyOrFailure(yield* this.connection.run({ steps }, 'find', this.deadline, this.work));
    return isFailure(reply) ? reply : steps.flatMap((_step, index) => foundIn(reply, index));
  }

  /** Reads the values of the key records of identities. */
  *valuesOf(identities: readonly string[]): Task<readonly Alias[] | Failure> {
    const aliases: Alias[] = [];
    for (let at = 0; at < identities.length; at += BATCH) {
      const batch = identities.slice(at, at + BATCH);
      const found = yield* this.run(
        batch.map((identity) => step('X_Find', keyRecordsOfIdentity(identity), NO_MAXIMUM, keyRecordTypes)),
      );
      if (isFailure(found)) return found;
      aliases.push(...keyAliasesIn(found));
    }
    return aliases;
  }
}

/** Returns the handles that key records name, by the digest that the records show; tombstones are left out. */
function handlesByDigest(named: readonly FoundObject[]): ReadonlyMap<string, readonly number[]> {
  const handles = new Map<string, number[]>();
  for (const {
    attributes: [label, digest],
  } of named) {
    const handle = handleInLabel(label?.value);
    if (handle === undefined) continue;
    const key = hex(digest?.value ?? new Uint8Array());
    const same = handles.get(key);
    if (same === undefined) handles.set(key, [handle]);
    else if (!same.includes(handle)) same.push(handle);
  }
  return handles;
}
