import { sameBytes } from '../base/bytes.js';
import type { Task } from '../base/task.js';
import { findObjects } from '../call/find.js';
import type { Group } from '../group/group.js';
import { PendingWork } from '../group/job-outcome.js';
import type { Alias } from '../objects/alias-table.js';
import { isProvenByIdentity, keyOf, templateOf } from '../objects/identity.js';
import type { ProofKind } from '../objects/key-note.js';
import { attributesOf, hex, objectOf } from '../objects/note.js';
import { areOfOneKey, type VirtualObject } from '../objects/object.js';
import type { AliasRecord } from '../records/record.js';
import { useIn } from '../replicas/copies.js';
import { establishReference } from '../replicas/reference.js';
import { aliasOf, hasRecordedHandle, useOf } from '../replication/naming.js';
import type { BackupRecord } from './backup-record.js';

type Proofs = ReadonlyMap<ProofKind, Uint8Array>;

/** Plan for an object of a backup. */
type RestorePlan =
  /** The object is created, with alias records if its handle does not follow from its identity. */
  | { readonly kind: 'free'; readonly object: VirtualObject; readonly aliases: readonly AliasRecord[] }
  /** The group has the object. */
  | { readonly kind: 'present' }
  /** Another object is in the way. */
  | { readonly kind: 'conflict'; readonly reason: string };

/** Plans how the objects of a backup get their former handles. */
export class RestorePlanner {
  readonly #handles: ReadonlySet<number>;
  /** Number of objects of the backup by identity. */
  readonly #counts = new Map<string, number>();

  constructor(
    readonly group: Group,
    records: readonly BackupRecord[],
    readonly deadline: number,
  ) {
    this.#handles = new Set(records.map(({ note }) => note.handle));
    for (const { note } of records) {
      const key = keyOf(objectOf(note).identity);
      this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    }
  }

  /** Plans one object; `proofs` prove its key in this group. */
  *planFor(record: BackupRecord, stored: VirtualObject, proofs: Proofs): Task<RestorePlan> {
    const { group } = this;
    const { handle, identity, description } = stored;
    const others = yield* this.#ofIdentity(stored);
    const isSame = (other: VirtualObject): boolean =>
      isProvenByIdentity(description) || areOfOneKey(other.reference, proofs);
    const own = others.find((other) => other.handle === handle);
    if (own !== undefined) {
      if (isSame(own)) return { kind: 'present' };
      return { kind: 'conflict', reason: 'the group has another key under this name and handle' };
    }
    const elsewhere = others.find((other) => isSame(other) && !this.#handles.has(other.handle));
    if (elsewhere !== undefined)
      return { kind: 'conflict', reason: `the group has the object under another handle: ${elsewhere.handle}` };
    const holder = group.objects.get(handle);
    if (holder !== undefined) {
      if (yield* this.#exists(holder))
        return { kind: 'conflict', reason: `the handle belongs to another object of the group: ${holder.label}` };
      // Another process has destroyed that object.
      group.objects.remove(holder);
    }
    if (hasRecordedHandle(group, description)) {
      const drawn = (): Uint8Array => group.port.randomBytes(6);
      const recorded = group.objects.addRecorded(identity, description, drawn, handle);
      this.#complete(recorded, stored, proofs);
      recorded.use = useIn(attributesOf(record.template));
      return { kind: 'free', object: recorded, aliases: [] };
    }
    const isNatural =
      !record.alias &&
      others.length === 0 &&
      this.#counts.get(keyOf(identity)) === 1 &&
      group.objects.aliasesOf(identity).length === 0 &&
      Buffer.from(group.port.sha256(identity)).readUIntBE(0, 6) === handle;
    const object = isNatural ? group.objects.intern(identity, description) : this.#internAs(handle, stored, proofs);
    if (object.handle !== handle) {
      group.objects.remove(object);
      return { kind: 'conflict', reason: 'the handle cannot be assigned in this group' };
    }
    this.#complete(object, stored, proofs);
    const copies = others.filter(isSame);
    if (copies.length > 0) object.use ??= useIn(attributesOf(record.template));
    // If several objects have one identity, each needs an alias record: add those that are missing.
    const unnamed = isNatural ? [] : others.filter((other) => group.objects.aliasOf(other.handle) === undefined);
    for (const copy of copies) if (unnamed.includes(copy)) copy.use ??= yield* useOf(group, copy, this.deadline);
    const named = isNatural ? [] : [...unnamed, object];
    return { kind: 'free', object, aliases: named.map((each) => aliasOf(group, each)) };
  }

  /** Finds the group's objects of the same identity. */
  *#ofIdentity({ identity, description }: VirtualObject): Task<readonly VirtualObject[]> {
    const { group } = this;
    const found = yield* findObjects(group, templateOf(description), this.deadline);
    const others = found.filter((other) => other.session === undefined && sameBytes(other.identity, identity));
    for (const other of others) {
      if (!other.referenced && !isProvenByIdentity(other.description))
        yield* establishReference(group, other, new PendingWork());
    }
    return others;
  }

  *#exists(object: VirtualObject): Task<boolean> {
    const found = yield* findObjects(this.group, templateOf(object.description), this.deadline);
    return found.includes(object);
  }

  /** Interns an object under a handle that does not follow from its identity. */
  #internAs(handle: number, stored: VirtualObject, proofs: Proofs): VirtualObject {
    const { group } = this;
    const { identity, description } = stored;
    // Use an ordinal and a use that no copy has, so that the object is not taken for one of the copies.
    const ordinal = Math.max(-1, ...group.objects.withIdentity(identity).map((other) => other.ordinal)) + 1;
    const use = hex(group.port.randomBytes(8));
    const digest = group.objects.digestOf(identity);
    const alias: Alias = { handle, identity: digest, proofs, use, time: group.nextTimestamp(), isOfKey: false };
    const aliases = Array.from({ length: ordinal + 1 }, () => alias);
    const object = group.objects.internTwin(identity, proofs, ordinal, description, use, aliases);
    if (object.use === use) object.use = undefined;
    return object;
  }

  #complete(object: VirtualObject, stored: VirtualObject, proofs: Proofs): void {
    object.described = stored.described;
    object.valueDigest = stored.valueDigest;
    object.use ??= stored.use;
    object.reference.clear();
    for (const [kind, proof] of proofs) object.reference.set(kind, proof);
    object.referenced = proofs.size > 0 || isProvenByIdentity(object.description);
  }
}
