import { verdictOn } from '../../spec/verdict.js';
import { sameBytes } from '../base/bytes.js';
import type { Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { type Failure, isFailure, type PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { aliasIn } from '../group/record-learning.js';
import type { Alias } from '../objects/alias-table.js';
import type { FoundReplica } from '../objects/found-object.js';
import { isProvenByIdentity, isRenamed, isReserved } from '../objects/identity.js';
import type { ProofKind } from '../objects/key-note.js';
import { hex } from '../objects/note.js';
import { areOfOneKey, fingerprintOf, type VirtualObject } from '../objects/object.js';
import type { RecordsFound } from '../records/ledger.js';
import { FIRST_FORMAT } from '../records/record.js';
import { readUses } from '../replicas/copies.js';
import { proofsOf } from '../replicas/fingerprint.js';
import { isRecordedKey, metAs } from './key-alias-reading.js';

/** Twin with the proofs of its key. */
interface ProvenTwin {
  readonly twin: FoundReplica;
  readonly proofs: ReadonlyMap<ProofKind, Uint8Array>;
}

/** Maps objects that were found on a member to virtual objects. */
export class ObjectMapping {
  /** Objects whose real handle has changed. */
  readonly moved: Set<VirtualObject> = new Set<VirtualObject>();
  /** Objects whose real handle is as before. */
  readonly intact: Set<VirtualObject> = new Set<VirtualObject>();
  /** Records of the member, if they were read with the objects. */
  records: RecordsFound | undefined;
  /** Aliases that key records on the member give, if they were read with the objects. */
  keyAliases: readonly Alias[] = [];
  /** Known objects by real handle in hexadecimal; made on first use. */
  #knownHandles: ReadonlyMap<string, VirtualObject> | undefined;

  constructor(
    readonly group: Group,
    readonly member: Member,
    readonly connection: Connection,
    readonly work: PendingWork,
  ) {}

  /** Maps found objects; objects of one identity on the member are twins. Fails if twins cannot be told apart. */
  *toVirtual(found: readonly FoundReplica[]): Task<readonly VirtualObject[] | Failure> {
    const { group, connection } = this;
    const objects: VirtualObject[] = [];
    const byIdentity = new Map<string, FoundReplica[]>();
    for (const replica of found) {
      const { label, token } = replica.description;
      if (isReserved(label)) continue;
      if (!token) {
        // Session objects count if the application made them; others are originals.
        const own = connection.sessionObjects.get(hex(replica.handle));
        if (own !== undefined) objects.push(own);
        continue;
      }
      if (group.objects.withIdentity(replica.identity).length === 0) {
        this.#noticeRename(replica);
        this.#noticeSuccession(replica);
      }
      const key = Buffer.from(replica.identity).toString('latin1');
      const same = byIdentity.get(key);
      if (same === undefined) byIdentity.set(key, [replica]);
      else same.push(replica);
    }
    for (const same of byIdentity.values()) {
      const [first] = same;
      if (first === undefined) continue;
      const met = this.#met(same);
      if (met !== undefined) objects.push(...met);
      else if (same.length === 1 && !group.objects.isTwinned(first.identity)) {
        const object =
          this.#byFormerName(first) ??
          group.objects.intern(first.identity, first.description, this.#aliasesOf(first.identity));
        this.#note(object, first);
        objects.push(object);
      } else {
        const twins = yield* this.#mapTwins(same);
        if (isFailure(twins)) return twins;
        objects.push(...twins);
        this.#forgetOthers(first.identity, twins);
      }
    }
    return objects;
  }

  /**
   * Returns the objects of keys whose real handles were all met before: what other searches read of records meanwhile
   * does not change their names. Undefined if one was not met.
   */
  #met(same: readonly FoundReplica[]): readonly VirtualObject[] | undefined {
    const { group, connection, work } = this;
    if (work.epoch !== connection.epoch) return undefined;
    const objects: VirtualObject[] = [];
    for (const replica of same) {
      const known = isRecordedKey(group, replica) ? metAs(connection, replica) : undefined;
      if (known === undefined || known.isProvisional || group.objects.get(known.handle) !== known) return undefined;
      objects.push(known);
    }
    for (const [index, object] of objects.entries()) this.#note(object, same[index] as FoundReplica);
    return objects;
  }

  /**
   * Notices that another process renamed an object: the identity is new to this process, the real handle is known. The
   * host may not see the alias of the new name yet. The key is proven anew.
   */
  #noticeRename({ handle, identity, description, valueDigest }: FoundReplica): void {
    const { group, connection, work } = this;
    if (work.epoch !== connection.epoch) return;
    this.#knownHandles ??= new Map(
      [...connection.replicas].flatMap(([object, replica]) =>
        replica.kind === 'usable' ? [[hex(replica.handle), object] as const] : [],
      ),
    );
    const known = this.#knownHandles.get(hex(handle));
    if (known === undefined || group.objects.get(known.handle) !== known) return;
    if (!isRenamed(known.description, description) || !sameBytes(known.valueDigest, valueDigest)) return;
    group.objects.rename(known, identity, description);
    connection.replicas.delete(known);
  }

  /**
   * Notices that an object has taken the former name of a renamed object, whose handle derives from that name. If the
   * member has no alias with that handle, the renamed object was destroyed and the found object takes over its handle.
   * Or the found object is the renamed object, on a member that missed the rename: then the alias on another member
   * gives it its name again. The key is proven anew.
   */
  #noticeSuccession({ identity, description }: FoundReplica): void {
    const { objects, members } = this.group;
    const former = objects.formerOf(identity);
    if (former === undefined || former.isRecorded || this.records === undefined) return;
    if (this.records.aliases.some(({ record }) => record.handle === former.handle)) return;
    objects.rename(former, identity, description);
    former.reference.clear();
    former.referenced = false;
    former.replicaStatus.clear();
    for (const { connection } of members) connection?.replicas.delete(former);
  }

  /** Returns the renamed object that a member still has under its former name, since the member missed the rename. */
  #byFormerName({ identity }: FoundReplica): VirtualObject | undefined {
    const { objects } = this.group;
    // Aliases that are known of all members are as new as those of this member.
    if (objects.withIdentity(identity).length > 0 || objects.aliasesOf(identity).length > 0) return undefined;
    const [own] = this.#aliasesOf(identity) ?? [];
    if (own !== undefined) return objects.get(own.handle);
    // The object had no alias before the rename, which writes the new alias first. Another object of that name would
    // have an alias too.
    const former = objects.formerOf(identity);
    const isRenamed = this.records?.aliases.some(({ record }) => record.handle === former?.handle);
    return isRenamed === true ? former : undefined;
  }

  /** Forgets twins that were destroyed: all twins have aliases, so a twin whose alias is gone was destroyed. */
  #forgetOthers(identity: Uint8Array, found: readonly VirtualObject[]): void {
    const { objects } = this.group;
    if (this.records === undefined) return;
    const named = new Set(this.records.aliases.map(({ record }) => record.handle));
    for (const { handle } of this.keyAliases) named.add(handle);
    for (const { handle } of objects.aliasesOf(identity)) named.add(handle);
    const isLeft = (object: VirtualObject): boolean => found.includes(object) || named.has(object.handle);
    if (!found.some(({ handle }) => named.has(handle))) return;
    for (const other of objects.withIdentity(identity)) if (other.isAliased && !isLeft(other)) objects.remove(other);
  }

  /** Notes the real handle of an object, unless the key must be proven first. */
  #note(object: VirtualObject, replica: FoundReplica): void {
    const { group, connection, member, work } = this;
    if (object.valueDigest.length === 0) object.valueDigest = replica.valueDigest;
    if (work.epoch !== connection.epoch) return;
    connection.named.set(hex(replica.handle), object);
    // Another process may have brought the object to the member since.
    if (object.replicaStatus.get(member.name) === 'absent') object.replicaStatus.delete(member.name);
    const known = connection.replicas.get(object);
    if (known?.kind === 'usable') {
      if (sameBytes(known.handle, replica.handle)) {
        this.intact.add(object);
        return;
      }
      this.moved.add(object);
      connection.replicas.delete(object);
    }
    if (isProvenByIdentity(object.description)) {
      connection.replicas.set(object, { kind: 'usable', handle: replica.handle, proven: true });
      group.noteReplicaStatus(member, object, 'proven');
    } else if (known?.kind === 'absent') {
      connection.replicas.delete(object);
    }
  }

  /** Maps twins: proofs tell their keys apart, permitted uses tell exact copies of one key apart. */
  *#mapTwins(twins: readonly FoundReplica[]): Task<readonly VirtualObject[] | Failure> {
    const { group, connection, work } = this;
    const byKey = new Map<string, ProvenTwin[]>();
    for (const twin of twins) {
      const proofs = isProvenByIdentity(twin.description)
        ? new Map<ProofKind, Uint8Array>()
        : yield* proofsOf(group, connection, twin, work);
      if (isFailure(proofs)) {
        // Another process destroyed the twin just now.
        if (this.#isGone(proofs)) continue;
        return proofs;
      }
      const key = Buffer.from(fingerprintOf(proofs)).toString('latin1');
      byKey.set(key, [...(byKey.get(key) ?? []), { twin, proofs }]);
    }
    const objects: VirtualObject[] = [];
    const unnamed = [...byKey.values()].filter((copies) => !this.#isNamed(copies));
    for (const copies of byKey.values()) {
      if (this.#isOnlyUnnamed(copies, unnamed)) {
        const [{ twin }] = copies as [ProvenTwin];
        objects.push(...this.#mapUnnamed(twin));
        continue;
      }
      const uses = yield* this.#usesOf(copies);
      if (isFailure(uses)) {
        if (this.#isGone(uses)) continue;
        return uses;
      }
      const ordinals = new Map<string | undefined, number>();
      for (const [index, { twin, proofs }] of copies.entries()) {
        const use = uses[index];
        const ordinal = ordinals.get(use) ?? 0;
        ordinals.set(use, ordinal + 1);
        const own = this.#aliasesOf(twin.identity);
        const object = group.objects.internTwin(twin.identity, proofs, ordinal, twin.description, use, own);
        for (const [kind, proof] of proofs) object.reference.set(kind, proof);
        object.referenced = true;
        this.#note(object, twin);
        objects.push(object);
      }
    }
    return objects;
  }

  /** Returns true if a record names a key, given by its copies on the member. */
  #isNamed([first]: readonly ProvenTwin[]): boolean {
    if (first === undefined) return false;
    return this.group.objects.aliasesOf(first.twin.identity).some(({ proofs }) => areOfOneKey(proofs, first.proofs));
  }

  #isOnlyUnnamed(copies: readonly ProvenTwin[], unnamed: readonly (readonly ProvenTwin[])[]): boolean {
    const isOnlyOne = unnamed.length === 1 && unnamed[0] === copies && copies.length === 1;
    return isOnlyOne && this.group.ledger.format > FIRST_FORMAT;
  }

  /**
   * Maps an object that others put there: it keeps the handle that follows from its name. Finds do not give a key that
   * has the name of one of the group's keys.
   */
  #mapUnnamed(twin: FoundReplica): readonly VirtualObject[] {
    const { group, member } = this;
    const { identity, description } = twin;
    const other = group.objects.internUnrecorded(identity, description);
    if (isProvenByIdentity(description) || !group.objects.aliasesOf(identity).some(({ isOfKey }) => isOfKey)) {
      this.#note(other, twin);
      return [other];
    }
    group.noteReplicaStatus(member, other, 'misaligned');
    return [];
  }

  #isGone(failure: Failure): boolean {
    return failure.kind === 'code' && verdictOn(failure.code, this.group.policy.verdicts) === 'object';
  }

  /** Reads the permitted uses of copies; a key without copies needs none. */
  *#usesOf(copies: readonly ProvenTwin[]): Task<readonly (string | undefined)[] | Failure> {
    const { group, connection, work } = this;
    const [first] = copies;
    const isCopied =
      first !== undefined &&
      group.objects.aliasesOf(first.twin.identity).filter(({ proofs }) => areOfOneKey(proofs, first.proofs)).length > 1;
    if (copies.length < 2 && !isCopied) return [undefined];
    const twins = copies.map(({ twin }) => twin);
    return yield* readUses(connection, twins, work);
  }

  /** Returns the aliases that this member has of an identity; undefined if its records were not read. */
  #aliasesOf(identity: Uint8Array): readonly Alias[] | undefined {
    if (this.records === undefined && this.keyAliases.length === 0) return undefined;
    const digest = this.group.objects.digestOf(identity);
    const recorded = (this.records?.aliases ?? []).map(({ record }) => aliasIn(record));
    return [...recorded, ...this.keyAliases].filter((alias) => alias.identity === digest);
  }
}
