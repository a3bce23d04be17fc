import { sameBytes } from '../base/bytes.js';
import type { Task } from '../base/task.js';
import { findObjects } from '../call/find.js';
import type { Group } from '../group/group.js';
import { PendingWork } from '../group/job-outcome.js';
import { isProvenByIdentity, templateOf } from '../objects/identity.js';
import type { ProofKind } from '../objects/key-note.js';
import { attributesOf, hex, objectOf } from '../objects/note.js';
import { type Alias, areOfOneKey, type VirtualObject } from '../objects/object.js';
import type { AliasRecord } from '../records/record.js';
import { useIn } from '../replicas/copies.js';
import { establishReference } from '../replicas/reference.js';
import { aliasOf, useOf } from '../replication/naming.js';
import type { BackupRecord } from './backup-record.js';

type Proofs = ReadonlyMap<ProofKind, Uint8Array>;

/** Where an object of a backup has its place in the group. */
export type RestorePlan =
  /** It is to be made: under the handle that it had, with the records that say so where nothing else does. */
  | { readonly kind: 'free'; readonly object: VirtualObject; readonly aliases: readonly AliasRecord[] }
  /** It is there. */
  | { readonly kind: 'present' }
  /** Something else is. */
  | { readonly kind: 'conflict'; readonly reason: string };

const keyOf = (identity: Uint8Array): string => Buffer.from(identity).toString('latin1');

/** Finds the places of what a backup holds. */
export class RestorePlanner {
  readonly #handles: ReadonlySet<number>;
  /** How many of the backup's objects are of an identity. */
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

  /** The place of an object, given what proves its key in this group. */
  *find(record: BackupRecord, loose: VirtualObject, proofs: Proofs): Task<RestorePlan> {
    const { group } = this;
    const { handle, identity, description } = loose;
    const others = yield* this.#named(loose);
    const isSame = (other: VirtualObject): boolean =>
      isProvenByIdentity(description) || areOfOneKey(other.reference, proofs);
    const own = others.find((other) => other.handle === handle);
    if (own !== undefined) {
      if (isSame(own)) return { kind: 'present' };
      return { kind: 'conflict', reason: 'the group has another key by this name and handle' };
    }
    const elsewhere = others.find((other) => isSame(other) && !this.#handles.has(other.handle));
    if (elsewhere !== undefined)
      return { kind: 'conflict', reason: `the group has it already, by the handle ${elsewhere.handle}` };
    const holder = group.objects.get(handle);
    if (holder !== undefined) {
      if (yield* this.#isThere(holder))
        return { kind: 'conflict', reason: `its handle is that of another object here: ${holder.label}` };
      // Somebody has destroyed it, and this process had not heard of it.
      group.objects.remove(holder);
    }
    const isNatural =
      !record.alias &&
      others.length === 0 &&
      this.#counts.get(keyOf(identity)) === 1 &&
      group.objects.aliasesOf(identity).length === 0 &&
      Buffer.from(group.port.sha256(identity)).readUIntBE(0, 6) === handle;
    const object = isNatural ? group.objects.intern(identity, description) : this.#internAs(handle, loose, proofs);
    if (object.handle !== handle) {
      group.objects.remove(object);
      return { kind: 'conflict', reason: 'its handle cannot be had here' };
    }
    this.#complete(object, loose, proofs);
    const copies = others.filter(isSame);
    if (copies.length > 0) object.use ??= useIn(attributesOf(record.template));
    // Those that have a name of their own keep it; the others may go by their identity no longer.
    const unnamed = isNatural ? [] : others.filter((other) => !group.ledger.hasAliases(other.handle));
    for (const copy of copies) if (unnamed.includes(copy)) copy.use ??= yield* useOf(group, copy, this.deadline);
    const named = isNatural ? [] : [...unnamed, object];
    return { kind: 'free', object, aliases: named.map((each) => aliasOf(group, each)) };
  }

  /** What the group has under the object's name. */
  *#named({ identity, description }: VirtualObject): Task<readonly VirtualObject[]> {
    const { group } = this;
    const found = yield* findObjects(group, templateOf(description), this.deadline);
    const others = found.filter((other) => other.session === undefined && sameBytes(other.identity, identity));
    for (const other of others) {
      if (!other.referenced && !isProvenByIdentity(other.description))
        yield* establishReference(group, other, new PendingWork());
    }
    return others;
  }

  *#isThere(object: VirtualObject): Task<boolean> {
    const found = yield* findObjects(this.group, templateOf(object.description), this.deadline);
    return found.includes(object);
  }

  /** The object of a handle that does not follow from its name. */
  #internAs(handle: number, loose: VirtualObject, proofs: Proofs): VirtualObject {
    const { group } = this;
    const { identity, description } = loose;
    // An ordinal and a use that no copy of it has: it is not to be taken for one of them.
    const ordinal = Math.max(-1, ...group.objects.withIdentity(identity).map((other) => other.ordinal)) + 1;
    const use = hex(group.port.randomBytes(8));
    const alias: Alias = { handle, proofs, use, time: group.nextTimestamp() };
    const aliases = Array.from({ length: ordinal + 1 }, () => alias);
    const object = group.objects.internTwin(identity, proofs, ordinal, description, use, aliases);
    if (object.use === use) object.use = undefined;
    return object;
  }

  #complete(object: VirtualObject, loose: VirtualObject, proofs: Proofs): void {
    object.described = loose.described;
    object.valueDigest = loose.valueDigest;
    object.use ??= loose.use;
    object.reference.clear();
    for (const [kind, proof] of proofs) object.reference.set(kind, proof);
    object.referenced = proofs.size > 0 || isProvenByIdentity(object.description);
  }
}
