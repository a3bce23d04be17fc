import type { Task } from '../base/task.js';
import { runCall } from '../call/call.js';
import { findObjects } from '../call/find.js';
import type { Group } from '../group/group.js';
import { PendingWork } from '../group/job-outcome.js';
import { readAttributes } from '../jobs/operation.js';
import { isProvenByIdentity, templateOf } from '../objects/identity.js';
import { hex, noteProofs } from '../objects/note.js';
import { areOfOneKey, type VirtualObject } from '../objects/object.js';
import type { AliasRecord } from '../records/record.js';
import { useIn, useTypes } from '../replicas/copies.js';
import { establishReference } from '../replicas/reference.js';
import type { OriginalObject } from './original.js';

/** An object with its handle, and the alias records without which other processes would give it another. */
export interface NamedObject {
  readonly object: VirtualObject;
  readonly aliases: readonly AliasRecord[];
}

/**
 * Gives an object that is about to be made its handle (Rule 11): that of its identity, or, when there are objects
 * of that identity already, one of its own; aliases then tell all of them apart for good.
 */
export function* nameObject(group: Group, part: OriginalObject, deadline: number): Task<NamedObject> {
  const { objects } = group;
  const { identity, description, proofs, request } = part;
  if (!request.token) return { object: complete(objects.addSessionObject(identity, description), part), aliases: [] };
  let others = objects.withIdentity(identity);
  if (part.hasTwins || others.length > 0) {
    // What this process knows may have been destroyed by another one.
    const before = others;
    const found = new Set(yield* findObjects(group, templateOf(description), deadline));
    // One that has gone may only have got another name, and keeps its handle: then it is met by that.
    if (before.some((other) => !found.has(other))) {
      group.ledger.aliasesReadAt = Number.NEGATIVE_INFINITY;
      yield* findObjects(group, [], deadline);
    }
    others = objects.withIdentity(identity).filter((other) => found.has(other));
  }
  if (others.length === 0 && objects.aliasesOf(identity).length === 0) {
    const only = complete(objects.intern(identity, description), part);
    // Its own handle may be that of another one, which has been renamed: this one has to keep what it gets.
    return { object: only, aliases: objects.isOwnHandle(only) ? [] : [aliasOf(group, only)] };
  }
  for (const other of others) {
    if (!other.referenced && !isProvenByIdentity(other.description)) {
      yield* establishReference(group, other, new PendingWork());
    }
  }
  const copies = others.filter((other) => areOfOneKey(other.reference, proofs));
  const use = copies.length === 0 ? undefined : useIn(part.template);
  for (const copy of copies) copy.use ??= yield* useOf(group, copy, deadline);
  const object = complete(objects.addTwin(identity, description, group.port.randomBytes(8), use), part);
  const aliases = [...others, object].map((each) => aliasOf(group, each));
  return { object, aliases: aliases.filter((alias) => !isKnown(group, alias)) };
}

/**
 * The alias records with which an object gets the name that it has in `renamed`: its own, and those of others that go
 * by that name already; aliases tell all of them apart for good. Its use is stated where it is a copy of one of them.
 */
export function* renameAmong(group: Group, renamed: VirtualObject, deadline: number): Task<readonly AliasRecord[]> {
  const { objects } = group;
  const { identity, description, handle } = renamed;
  const isTaken = (other: VirtualObject): boolean => other.handle !== handle;
  // Another process may have made one of that name.
  const found = new Set(yield* findObjects(group, templateOf(description), deadline));
  const others = objects.withIdentity(identity).filter((other) => isTaken(other) && found.has(other));
  if (others.length === 0) return [aliasOf(group, renamed)];
  // By the name that it still has: under the other one it would be taken for one of them.
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

/** What an object may be used for. */
export function* useOf(group: Group, object: VirtualObject, deadline: number): Task<string> {
  const read = yield* runCall(group, readAttributes(object, useTypes), deadline);
  return read.map(({ presence, value }) => (presence === 'present' && value[0] === 1 ? '1' : '0')).join('');
}

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

/** What the draft has shown belongs to the object from now on. */
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
