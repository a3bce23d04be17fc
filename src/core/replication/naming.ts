import type { Task } from '../base/task.js';
import { runCall } from '../call/call.js';
import { findObjects } from '../call/find.js';
import type { Group } from '../group/group.js';
import { PendingWork } from '../group/job-outcome.js';
import { isSecretRequest } from '../jobs/creation-request.js';
import { readAttributes } from '../jobs/operation.js';
import { isProvenByIdentity, templateOf } from '../objects/identity.js';
import { hex, noteProofs } from '../objects/note.js';
import { areOfOneKey, type VirtualObject } from '../objects/object.js';
import { type AliasRecord, FIRST_FORMAT } from '../records/record.js';
import { useIn, useTypes } from '../replicas/copies.js';
import { establishReference } from '../replicas/reference.js';
import type { OriginalObject } from './original-reader.js';

/** Object with its handle, and the alias records without which other processes would give it another handle. */
interface NamedObject {
  readonly object: VirtualObject;
  readonly aliases: readonly AliasRecord[];
}

/**
 * Gives an object that is about to be made its handle (Rule 27). That of a key is drawn at random and stands in its key
 * record. That of any other object follows from its identity, which holds its public material or value. If the group
 * has objects of that identity already, the object gets a random handle, and aliases tell all of them apart.
 */
export function* nameObject(group: Group, original: OriginalObject, deadline: number): Task<NamedObject> {
  const { objects } = group;
  const { identity, description, proofs, request } = original;
  if (!request.token)
    return { object: complete(objects.addSessionObject(identity, description), original), aliases: [] };
  if (hasRecordedHandle(group, request)) {
    const drawn = objects.addRecorded(identity, description, () => group.port.randomBytes(6));
    drawn.use = useIn(original.template);
    return { object: complete(drawn, original), aliases: [] };
  }
  let others = objects.withIdentity(identity);
  if (original.hasTwins || others.length > 0) {
    // Another process may have destroyed objects that this process knows.
    const before = others;
    const found = new Set(yield* findObjects(group, templateOf(description), deadline));
    // If a known object is not found, another process may have renamed it; reread the aliases.
    if (before.some((other) => !found.has(other))) {
      group.ledger.aliasesReadAt = Number.NEGATIVE_INFINITY;
      yield* findObjects(group, [], deadline);
    }
    others = objects.withIdentity(identity).filter((other) => found.has(other));
  }
  if (others.length === 0 && objects.aliasesOf(identity).length === 0) {
    const only = complete(objects.intern(identity, description), original);
    // If a renamed object holds the handle of this identity, the object gets another handle and needs an alias.
    return { object: only, aliases: objects.isOwnHandle(only) ? [] : [aliasOf(group, only)] };
  }
  for (const other of others) {
    if (!other.referenced && !isProvenByIdentity(other.description)) {
      yield* establishReference(group, other, new PendingWork());
    }
  }
  const copies = others.filter((other) => areOfOneKey(other.reference, proofs));
  const use = copies.length === 0 ? undefined : useIn(original.template);
  for (const copy of copies) copy.use ??= yield* useOf(group, copy, deadline);
  const object = complete(objects.addTwin(identity, description, group.port.randomBytes(8), use), original);
  const aliases = [...others, object].map((each) => aliasOf(group, each));
  return { object, aliases: aliases.filter((alias) => !isKnown(group, alias)) };
}

/**
 * Returns the alias records that a rename to the identity of `renamed` needs: its own, and those of other objects that
 * have this identity already. If the object is a copy of one of these, the aliases state the usage flags.
 */
export function* renameAmong(group: Group, renamed: VirtualObject, deadline: number): Task<readonly AliasRecord[]> {
  const { objects } = group;
  const { identity, description, handle } = renamed;
  if (renamed.isRecorded) return [];
  // Another process may have made an object of that identity.
  const found = new Set(yield* findObjects(group, templateOf(description), deadline));
  const others = objects.withIdentity(identity).filter((other) => other.handle !== handle && found.has(other));
  if (others.length === 0) return [aliasOf(group, renamed)];
  // Under its new identity the object would be found as one of the others, so its proofs are taken under the old one.
  const known = objects.get(handle) ?? renamed;
  for (const each of [...others, known]) {
    if (!each.referenced && !isProvenByIdentity(each.description))
      yield* establishReference(group, each, new PendingWork());
  }
  for (const [kind, proof] of known.reference) renamed.reference.set(kind, proof);
  const copies = others.filter((other) => areOfOneKey(other.reference, renamed.reference));
  for (const copy of copies) copy.use ??= yield* useOf(group, copy, deadline);
  if (copies.length > 0) renamed.use ??= yield* useOf(group, known, deadline);
  return [
    aliasOf(group, renamed),
    ...others.map((other) => aliasOf(group, other)).filter((alias) => !isKnown(group, alias)),
  ];
}

/** Returns true if the handle of a requested token object stands in its key record. */
export function hasRecordedHandle({ ledger }: Group, request: { readonly class: number }): boolean {
  return ledger.format > FIRST_FORMAT && isSecretRequest(request);
}

/** Reads the usage flags of an object: one digit for each of `useTypes`. */
export function* useOf(group: Group, object: VirtualObject, deadline: number): Task<string> {
  const read = yield* runCall(group, readAttributes(object, useTypes), deadline);
  return read.map(({ presence, value }) => (presence === 'present' && value[0] === 1 ? '1' : '0')).join('');
}

/** Builds the alias record of an object. */
export function aliasOf(group: Group, object: VirtualObject): AliasRecord {
  const digest = (bytes: Uint8Array): string => hex(group.port.sha256(bytes));
  return {
    kind: 'alias',
    handle: object.handle,
    identity: digest(object.identity),
    proofs: noteProofs(object.reference),
    use: object.use ?? null,
    time: group.nextTimestamp(),
  };
}

function isKnown(group: Group, { identity, handle, use }: AliasRecord): boolean {
  const known = group.objects.aliasesByDigest(identity);
  return known.some((alias) => alias.handle === handle && (alias.use ?? null) === use);
}

/** Gives the object the description and the proofs of its original. */
function complete(
  object: VirtualObject,
  { described, valueDigest, proofs, description }: OriginalObject,
): VirtualObject {
  object.described = described;
  object.valueDigest = valueDigest;
  object.reference.clear();
  for (const [kind, proof] of proofs) object.reference.set(kind, proof);
  object.referenced = proofs.size > 0 || isProvenByIdentity(description);
  return object;
}
