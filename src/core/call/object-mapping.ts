import { verdictOn } from '../../spec/verdict.js';
import { sameBytes } from '../base/bytes.js';
import type { Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { type Failure, isFailure, PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import type { FoundReplica } from '../objects/found-object.js';
import { isProvenByIdentity, isRenamed, isReserved } from '../objects/identity.js';
import type { ProofKind } from '../objects/key-note.js';
import { hex, proofsIn } from '../objects/note.js';
import { type Alias, areOfOneKey, fingerprintOf, type VirtualObject } from '../objects/object.js';
import type { RecordsFound } from '../records/ledger.js';
import { readUses } from '../replicas/copies.js';
import { proofsOf } from '../replicas/fingerprint.js';

interface ProvenTwin {
  readonly twin: FoundReplica;
  readonly proofs: ReadonlyMap<ProofKind, Uint8Array>;
}

/** The virtual objects of what was surveyed on a member under the login `epoch`. */
export function* toVirtualObjects(
  group: Group,
  member: Member,
  connection: Connection,
  epoch: number,
  found: readonly FoundReplica[],
): Task<readonly VirtualObject[] | Failure> {
  const work = new PendingWork();
  work.epoch = epoch;
  return yield* new ObjectMapping(group, member, connection, work).toVirtual(found);
}

/** Makes virtual objects of what was found on a member. */
export class ObjectMapping {
  /** Objects whose real handle is another than it was, and those where it is the same. */
  readonly moved: Set<VirtualObject> = new Set<VirtualObject>();
  readonly intact: Set<VirtualObject> = new Set<VirtualObject>();
  /** What the member's own records say, where they were read on the occasion. */
  records: RecordsFound | undefined;
  /** Known objects by their real handles, once that is asked for. */
  #knownHandles: ReadonlyMap<string, VirtualObject> | undefined;

  constructor(
    readonly group: Group,
    readonly member: Member,
    readonly connection: Connection,
    readonly work: PendingWork,
  ) {}

  /** Objects of one identity on the member are twins. A failure when the member did not say which of them is which. */
  *toVirtual(found: readonly FoundReplica[]): Task<readonly VirtualObject[] | Failure> {
    const { group, connection } = this;
    const objects: VirtualObject[] = [];
    const byIdentity = new Map<string, FoundReplica[]>();
    for (const replica of found) {
      const { label, token } = replica.description;
      if (isReserved(label)) continue;
      if (!token) {
        // Session objects of the application; others are made for a moment and nobody's business.
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
      if (same.length === 1 && !group.objects.isTwinned(first.identity)) {
        const object = this.#byFormerName(first) ?? group.objects.intern(first.identity, first.description);
        this.#meet(object, first);
        objects.push(object);
      } else {
        const twins = yield* this.#meetTwins(same);
        if (isFailure(twins)) return twins;
        objects.push(...twins);
        this.#forgetOthers(first.identity, twins);
      }
    }
    return objects;
  }

  /**
   * An object of a name that nobody here knows, under a real handle that is known: another process has renamed it. Its
   * alias may not be seen yet, since hosts are slow to see what others write; whether it is that key is proven anew.
   */
  #noticeRename({ handle, identity, description, valueDigest }: FoundReplica): void {
    const { group, connection, work: effort } = this;
    if (effort.epoch !== connection.epoch) return;
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
   * What had this name once, and was renamed, has its handle from it; where the member knows no alias of it, it was
   * destroyed, and what has taken its name since has the handle. Or it is itself, on a member that has yet to hear of
   * the rename: then the alias, on another one, gives it its name again. Which key it is, is proven anew.
   */
  #noticeSuccession({ identity, description }: FoundReplica): void {
    const { objects, members } = this.group;
    const former = objects.formerOf(identity);
    if (former === undefined || this.records === undefined) return;
    if (this.records.aliases.some(({ record }) => record.handle === former.handle)) return;
    objects.rename(former, identity, description);
    former.reference.clear();
    former.referenced = false;
    former.replicaStatus.clear();
    for (const { connection } of members) connection?.replicas.delete(former);
  }

  /** On a member that has yet to hear of a rename: the object whose alias there is older than that on others. */
  #byFormerName({ identity }: FoundReplica): VirtualObject | undefined {
    const { objects } = this.group;
    // What is known of all members is as new as what this one says.
    if (objects.withIdentity(identity).length > 0 || objects.aliasesOf(identity).length > 0) return undefined;
    const [own] = this.#aliasesOf(identity) ?? [];
    if (own !== undefined) return objects.get(own.handle);
    // What had no alias before: the new one is written first. Another one of that name would have one too.
    const former = objects.formerOf(identity);
    const isRenamed = this.records?.aliases.some(({ record }) => record.handle === former?.handle);
    return isRenamed === true ? former : undefined;
  }

  /** All of several that go by one name have aliases: one that had one, and has none any more, was destroyed. */
  #forgetOthers(identity: Uint8Array, met: readonly VirtualObject[]): void {
    const { objects } = this.group;
    if (this.records === undefined) return;
    const named = new Set(this.records.aliases.map(({ record }) => record.handle));
    for (const { handle } of objects.aliasesOf(identity)) named.add(handle);
    const isLeft = (object: VirtualObject): boolean => met.includes(object) || named.has(object.handle);
    if (!met.some(({ handle }) => named.has(handle))) return;
    for (const other of objects.withIdentity(identity)) if (other.isAliased && !isLeft(other)) objects.remove(other);
  }

  #meet(object: VirtualObject, replica: FoundReplica): void {
    const { group, connection, member, work: effort } = this;
    if (object.valueDigest.length === 0) object.valueDigest = replica.valueDigest;
    if (effort.epoch !== connection.epoch) return;
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
      object.replicaStatus.delete(member.name);
    }
  }

  /** Twins are told apart by what proves their keys, exact copies of one key by what they may be used for. */
  *#meetTwins(twins: readonly FoundReplica[]): Task<readonly VirtualObject[] | Failure> {
    const { group, connection, work: effort } = this;
    const byKey = new Map<string, ProvenTwin[]>();
    for (const twin of twins) {
      const proofs = isProvenByIdentity(twin.description)
        ? new Map<ProofKind, Uint8Array>()
        : yield* proofsOf(group, connection, twin, effort);
      if (isFailure(proofs)) {
        // Destroyed by somebody just now.
        if (this.#isGone(proofs)) continue;
        return proofs;
      }
      const key = Buffer.from(fingerprintOf(proofs)).toString('latin1');
      byKey.set(key, [...(byKey.get(key) ?? []), { twin, proofs }]);
    }
    const objects: VirtualObject[] = [];
    for (const copies of byKey.values()) {
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
        this.#meet(object, twin);
        objects.push(object);
      }
    }
    return objects;
  }

  #isGone(failure: Failure): boolean {
    return failure.kind === 'code' && verdictOn(failure.code, this.group.policy.verdicts) === 'object';
  }

  /** The uses of copies; of a key that has none here it is not asked for. */
  *#usesOf(copies: readonly ProvenTwin[]): Task<readonly (string | undefined)[] | Failure> {
    const { group, connection, work: effort } = this;
    const [first] = copies;
    const isCopied =
      first !== undefined &&
      group.objects.aliasesOf(first.twin.identity).filter(({ proofs }) => areOfOneKey(proofs, first.proofs)).length > 1;
    if (copies.length < 2 && !isCopied) return [undefined];
    const twins = copies.map(({ twin }) => twin);
    return yield* readUses(connection, twins, effort);
  }

  /** The aliases of an identity on this very member, which belong to what is found there; undefined if not read. */
  #aliasesOf(identity: Uint8Array): readonly Alias[] | undefined {
    if (this.records === undefined) return undefined;
    const digest = hex(this.group.port.sha256(identity));
    return this.records.aliases
      .filter(({ record }) => record.identity === digest)
      .map(({ record: { handle, proofs, use, time } }) => ({
        handle,
        proofs: proofsIn(proofs),
        use: use ?? undefined,
        time,
      }));
  }
}
