import type { Attribute } from '../../spec/attribute.js';
import { sameBytes } from '../base/bytes.js';
import type { ObjectSummary } from '../base/event.js';
import type { Description } from './identity.js';
import type { KeyRecord, ProofKind } from './key-note.js';

/** How an object stands on one member, for the status. */
export type ReplicaStatus = 'proven' | 'unproven' | 'misaligned' | 'absent';

/** How a session object is made again on a member whose host was replaced, and what tokens forget of it. */
export interface SessionMaterial {
  template: readonly Attribute[];
  readonly wrapped: KeyRecord['sealed'];
  readonly answers: KeyRecord['answers'];
}

/** An object as the application sees it; one for each identity, and one for each of twins. */
export class VirtualObject {
  /** The group's fingerprint; see reference.ts. */
  readonly reference: Map<ProofKind, Uint8Array> = new Map<ProofKind, Uint8Array>();
  referenced: boolean = false;
  readonly replicaStatus: Map<string, ReplicaStatus> = new Map<string, ReplicaStatus>();
  /** What identifies it, as `describedTypes` were read; set where a record is to be written of it. */
  described: readonly (Uint8Array | undefined)[] = [];
  valueDigest: Uint8Array = new Uint8Array();
  /** Its key record, once it was looked for: null when there is none. */
  record: KeyRecord | null | undefined;
  /** Of session objects only. */
  session: SessionMaterial | undefined;
  /** What it may be used for, where there are exact copies of its key; see copies.ts. */
  use: string | undefined;
  /** A record has given it its handle: without one it is not it. */
  isAliased: boolean = false;
  /** No member has it any more: its handle is void. */
  isDestroyed: boolean = false;

  constructor(
    /** 48 bits, the same in every process and after every restart. */
    readonly handle: number,
    /** Both change when it is renamed. */
    public identity: Uint8Array,
    public description: Description,
    /** Among exact copies: which, in the order of their handles. */
    public ordinal: number = 0,
  ) {}

  get label(): string {
    return Buffer.from(this.description.label).toString('utf8');
  }

  get id(): Buffer {
    return Buffer.from(this.description.id);
  }

  get summary(): ObjectSummary {
    return { handle: this.handle, label: this.label, id: this.id.toString('hex') };
  }
}

type Hash = (bytes: Uint8Array) => Uint8Array;

function keyOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

const byPreference: readonly ProofKind[] = ['digest', 'mac', 'signature', 'derive'];

type Proofs = ReadonlyMap<ProofKind, Uint8Array>;

/** What a twin's handle is made of: the best proof of its key; empty when nothing proves it. */
export function fingerprintOf(proofs: Proofs): Uint8Array {
  const kind = byPreference.find((each) => proofs.has(each));
  return kind === undefined
    ? new Uint8Array()
    : Buffer.concat([Buffer.from(kind), proofs.get(kind) ?? new Uint8Array()]);
}

/**
 * Whether proofs are of one key: those that members can give differ, what both have decides. Where nothing can be
 * proven of either, they are objects of equal identity.
 */
export function areOfOneKey(one: Proofs, other: Proofs): boolean {
  const common = byPreference.filter((kind) => one.has(kind) && other.has(kind));
  if (common.length === 0) return fingerprintOf(one).length === 0 && fingerprintOf(other).length === 0;
  return common.every((kind) => sameBytes(one.get(kind) as Uint8Array, other.get(kind) as Uint8Array));
}

function twinName(identity: Uint8Array, proofs: Proofs, use: string | undefined, ordinal: number): Uint8Array {
  return Buffer.concat([identity, fingerprintOf(proofs), Buffer.from(use ?? ''), Uint8Array.of(ordinal)]);
}

/** A handle that a record gives to an object; see AliasRecord. */
export interface Alias {
  readonly handle: number;
  /** Proofs of its key, and its use where that has to tell copies apart. */
  readonly proofs: Proofs;
  readonly use: string | undefined;
  readonly time: number;
}

/** Session objects count downwards from the largest handle; those of tokens are spread over all others. */
const LAST_HANDLE = 2 ** 48 - 1;
const MOST_SESSION_OBJECTS = 2 ** 31;

/** All virtual objects that this process has met. */
export class ObjectTable {
  readonly #byHandle = new Map<number, VirtualObject>();
  readonly #byName = new Map<string, VirtualObject>();
  readonly #names = new Map<VirtualObject, string>();
  readonly #byIdentity = new Map<string, Set<VirtualObject>>();
  readonly #aliases = new Map<string, readonly Alias[]>();
  readonly #reserved = new Set<number>();
  readonly #hash: Hash;
  #sessionObjects = 0;

  constructor(hash: Hash) {
    this.#hash = hash;
  }

  get(handle: number): VirtualObject | undefined {
    return this.#byHandle.get(handle);
  }

  values(): IterableIterator<VirtualObject> {
    return this.#byHandle.values();
  }

  /** Takes in what the group's alias records say: the digest of an identity in hexadecimal, and its handles. */
  learnAliases(aliases: ReadonlyMap<string, readonly Alias[]>): void {
    this.#aliases.clear();
    this.#reserved.clear();
    for (const [identity, handles] of aliases) {
      this.#aliases.set(identity, handles);
      for (const { handle } of handles) {
        this.#reserved.add(handle);
        const object = this.#byHandle.get(handle);
        if (object !== undefined) object.isAliased = true;
      }
    }
  }

  aliasesOf(identity: Uint8Array): readonly Alias[] {
    return this.#aliases.size === 0 ? [] : this.aliasesByDigest(Buffer.from(this.#hash(identity)).toString('hex'));
  }

  aliasesByDigest(digest: string): readonly Alias[] {
    return this.#aliases.get(digest) ?? [];
  }

  /** The objects of an identity that this process knows. */
  withIdentity(identity: Uint8Array): readonly VirtualObject[] {
    return [...(this.#byIdentity.get(keyOf(identity)) ?? [])];
  }

  /** Whether an object's handle follows from its identity alone, whatever else there is. */
  isOwnHandle({ handle, identity }: VirtualObject): boolean {
    return Buffer.from(this.#hash(identity)).readUIntBE(0, 6) === handle;
  }

  /** Another object that goes by the handle which follows from an identity: it had that name once. */
  formerOf(identity: Uint8Array): VirtualObject | undefined {
    const known = this.#byHandle.get(Buffer.from(this.#hash(identity)).readUIntBE(0, 6));
    return known === undefined || sameBytes(known.identity, identity) ? undefined : known;
  }

  /** Whether an object of that identity can only be told from others by its fingerprint. */
  isTwinned(identity: Uint8Array): boolean {
    const named = [...this.aliasesOf(identity), ...(this.#byIdentity.get(keyOf(identity)) ?? [])];
    return new Set(named.map(({ handle }) => handle)).size > 1;
  }

  /** The object of an identity, whichever member it was met on. */
  intern(identity: Uint8Array, description: Description): VirtualObject {
    const [alias] = this.aliasesOf(identity);
    const [known] = this.#byIdentity.get(keyOf(identity)) ?? [];
    return known ?? this.#intern(identity, identity, description, alias?.handle);
  }

  /** A twin: one of several objects of one identity on a member, told apart by its fingerprint and ordinal. */
  internTwin(
    identity: Uint8Array,
    proofs: Proofs,
    ordinal: number,
    description: Description,
    use?: string,
    /** Those of the member that it was found on, where they are known. */
    own?: readonly Alias[],
  ): VirtualObject {
    // Of copies those of that use; a twin that has no copy is who it is, whatever it may be used for by now.
    const handlesIn = (aliases: readonly Alias[]): number[] =>
      aliases
        .filter((alias) => areOfOneKey(alias.proofs, proofs) && (use === undefined || alias.use === use))
        .map((alias) => alias.handle)
        // Every process has to count them alike, in whatever order they are found.
        .sort((a, b) => a - b);
    const all = handlesIn(this.aliasesOf(identity));
    const here = own === undefined ? all : handlesIn(own);
    // What the member itself says comes first; one that was away may not know all of them yet.
    const handle = [...here, ...all.filter((each) => !here.includes(each))][ordinal];
    const known =
      (handle === undefined ? undefined : this.#byHandle.get(handle)) ??
      this.#copiesOf(identity, proofs, use).find((object) => object.ordinal === ordinal);
    const object = known ?? this.#intern(twinName(identity, proofs, use, ordinal), identity, description, handle);
    if (!sameBytes(object.identity, identity)) this.rename(object, identity, description);
    object.ordinal = ordinal;
    object.use ??= use;
    return object;
  }

  /** A twin that is about to be made: `nonce` keeps its handle apart from what other processes make just now. */
  addTwin(identity: Uint8Array, description: Description, nonce: Uint8Array, use?: string): VirtualObject {
    const object = this.#intern(Buffer.concat([identity, nonce]), identity, description, undefined);
    object.ordinal = this.withIdentity(identity).length - 1;
    object.use = use;
    return object;
  }

  #copiesOf(identity: Uint8Array, proofs: Proofs, use: string | undefined): readonly VirtualObject[] {
    return this.withIdentity(identity).filter(
      (object) =>
        object.referenced &&
        areOfOneKey(object.reference, proofs) &&
        (use === undefined || object.use === undefined || object.use === use),
    );
  }

  /** A session object: its handle is of this process only. */
  addSessionObject(identity: Uint8Array, description: Description): VirtualObject {
    let handle: number;
    do {
      this.#sessionObjects += 1;
      handle = LAST_HANDLE - (this.#sessionObjects % MOST_SESSION_OBJECTS);
    } while (this.#byHandle.has(handle));
    const object = new VirtualObject(handle, identity, description);
    this.#byHandle.set(handle, object);
    return object;
  }

  /** The object goes by another identity from now on; its handle stays. */
  rename(object: VirtualObject, identity: Uint8Array, description: Description): void {
    this.#unname(object);
    object.identity = identity;
    object.description = description;
    // It has another one by now.
    if (object.session === undefined) object.record = undefined;
    if (object.session !== undefined) return;
    const isTaken = this.#byName.has(keyOf(identity));
    this.#name(isTaken ? Buffer.concat([identity, fingerprintOf(object.reference)]) : identity, object);
  }

  remove(object: VirtualObject): void {
    object.isDestroyed = true;
    this.#unname(object);
    if (this.#byHandle.get(object.handle) === object) this.#byHandle.delete(object.handle);
  }

  #name(name: Uint8Array, object: VirtualObject): void {
    this.#byName.set(keyOf(name), object);
    this.#names.set(object, keyOf(name));
    const key = keyOf(object.identity);
    const same = this.#byIdentity.get(key);
    if (same === undefined) this.#byIdentity.set(key, new Set([object]));
    else same.add(object);
  }

  #unname(object: VirtualObject): void {
    const name = this.#names.get(object);
    if (name !== undefined && this.#byName.get(name) === object) this.#byName.delete(name);
    this.#names.delete(object);
    const key = keyOf(object.identity);
    const same = this.#byIdentity.get(key);
    same?.delete(object);
    if (same?.size === 0) this.#byIdentity.delete(key);
  }

  #intern(name: Uint8Array, identity: Uint8Array, description: Description, handle: number | undefined): VirtualObject {
    const known = (handle === undefined ? undefined : this.#byHandle.get(handle)) ?? this.#byName.get(keyOf(name));
    if (known !== undefined) {
      // Another process has renamed it.
      if (!sameBytes(known.identity, identity)) this.rename(known, identity, description);
      return known;
    }
    const object = new VirtualObject(handle ?? this.#freeHandle(name), identity, description);
    object.isAliased = handle !== undefined;
    this.#byHandle.set(object.handle, object);
    this.#name(name, object);
    return object;
  }

  // The first 48 bits of the hash; the full name is what is compared, so a collision hashes again.
  #freeHandle(name: Uint8Array): number {
    let digest = this.#hash(name);
    for (;;) {
      const handle = Buffer.from(digest).readUIntBE(0, 6);
      const isSessionObject = handle > LAST_HANDLE - MOST_SESSION_OBJECTS;
      if (handle !== 0 && !isSessionObject && !this.#byHandle.has(handle) && !this.#reserved.has(handle)) return handle;
      digest = this.#hash(digest);
    }
  }
}
