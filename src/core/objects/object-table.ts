import { sameBytes } from '../base/bytes.js';
import { type Alias, AliasTable } from './alias-table.js';
import { type Description, keyOf } from './identity.js';
import { areOfOneKey, fingerprintOf, type Proofs, VirtualObject } from './object.js';

/** Hash function, whose results have at least 6 bytes. */
type Hash = (bytes: Uint8Array) => Uint8Array;

/** Returns the name of a twin, which tells it from others of its identity. */
function twinName(identity: Uint8Array, proofs: Proofs, use: string | undefined, ordinal: number): Uint8Array {
  return Buffer.concat([identity, fingerprintOf(proofs), Buffer.from(use ?? ''), Uint8Array.of(ordinal)]);
}

/** Largest virtual handle. Handles of session objects count down from here. */
const LAST_HANDLE = 2 ** 48 - 1;
/** Number of handles reserved for session objects; token objects have hashes below them. */
const MOST_SESSION_OBJECTS = 2 ** 31;

/** Table of all virtual objects that this process has met, by handle, name and identity. */
export class ObjectTable {
  readonly #byHandle = new Map<number, VirtualObject>();
  readonly #byName = new Map<string, VirtualObject>();
  readonly #names = new Map<VirtualObject, string>();
  readonly #byIdentity = new Map<string, Set<VirtualObject>>();
  readonly #aliases = new AliasTable();
  readonly #hash: Hash;
  readonly #seesAll: () => boolean;
  #ownHandles = 0;

  /** `seesAll` returns true once records can be read, so that an object's handle is known for good. */
  constructor(hash: Hash, seesAll: () => boolean = () => true) {
    this.#hash = hash;
    this.#seesAll = seesAll;
  }

  get(handle: number): VirtualObject | undefined {
    return this.#byHandle.get(handle);
  }

  values(): Iterable<VirtualObject> {
    return new Set(this.#byHandle.values());
  }

  /** Adds an alias, unless one of that handle is as new. */
  addAlias(alias: Alias): void {
    this.#aliases.add(alias);
    this.#noteAliased(alias);
  }

  /** Forgets the alias of a handle that is void or has another identity now. */
  dropAlias(handle: number): void {
    this.#aliases.drop(handle);
  }

  /** Replaces the aliases of all alias records, or those that key records give to an identity, named by its digest. */
  replaceAliases(aliases: readonly Alias[], identity?: string): void {
    if (identity === undefined) this.#aliases.replaceRecorded(aliases);
    else this.#aliases.replaceKeys(identity, aliases);
    for (const alias of aliases) this.#noteAliased(alias);
  }

  #noteAliased({ handle, isOfKey }: Alias): void {
    const object = this.#byHandle.get(handle);
    if (object === undefined) return;
    object.isAliased = true;
    if (isOfKey) object.isRecorded = true;
  }

  aliasOf(handle: number): Alias | undefined {
    return this.#aliases.get(handle);
  }

  aliasesOf(identity: Uint8Array): readonly Alias[] {
    return this.#aliases.size === 0 ? [] : this.#aliases.of(this.digestOf(identity));
  }

  aliasesByDigest(digest: string): readonly Alias[] {
    return this.#aliases.of(digest);
  }

  /** Returns the digest of an identity in hexadecimal, by which records name it. */
  digestOf(identity: Uint8Array): string {
    return Buffer.from(this.#hash(identity)).toString('hex');
  }

  /** Returns the objects of an identity that this process knows. */
  withIdentity(identity: Uint8Array): readonly VirtualObject[] {
    return [...(this.#byIdentity.get(keyOf(identity)) ?? [])];
  }

  /** Returns true if the object's handle is the hash of its identity. */
  isOwnHandle({ handle, identity }: VirtualObject): boolean {
    return Buffer.from(this.#hash(identity)).readUIntBE(0, 6) === handle;
  }

  /** Returns the object of another identity that has the handle of this identity, which was once its own. */
  formerOf(identity: Uint8Array): VirtualObject | undefined {
    const known = this.#byHandle.get(Buffer.from(this.#hash(identity)).readUIntBE(0, 6));
    return known === undefined || sameBytes(known.identity, identity) ? undefined : known;
  }

  /** Returns true if several handles share an identity, so that only fingerprints tell the objects apart. */
  isTwinned(identity: Uint8Array): boolean {
    const named = [...this.aliasesOf(identity), ...(this.#byIdentity.get(keyOf(identity)) ?? [])];
    return new Set(named.map(({ handle }) => handle)).size > 1;
  }

  /** Returns the object of an identity that is unique; makes it if it is new. Aliases in `own` count before others. */
  intern(identity: Uint8Array, description: Description, own: readonly Alias[] = []): VirtualObject {
    const aliases = own.length > 0 ? own : this.aliasesOf(identity);
    const same = [...(this.#byIdentity.get(keyOf(identity)) ?? [])];
    // An object without its key record was destroyed, and a key that a record names has no other handle.
    const mayLack = ({ isRecorded, isProvisional }: VirtualObject): boolean =>
      !isRecorded && (aliases[0]?.isOfKey !== true || isProvisional);
    const known = same.find((each) => mayLack(each) || aliases.some(({ handle }) => handle === each.handle));
    if (known !== undefined) return this.#makeLasting(known, identity, aliases[0]?.handle);
    return this.#intern(identity, identity, description, aliases[0]?.handle);
  }

  /** Returns the object of an identity that no record names; makes it if it is new. */
  internUnrecorded(identity: Uint8Array, description: Description): VirtualObject {
    const known = this.#byName.get(keyOf(identity));
    if (known !== undefined && !known.isAliased) return this.#makeLasting(known, identity, undefined);
    return this.#intern(Buffer.concat([identity]), identity, description, undefined);
  }

  /** Returns a twin, one of several objects of an identity, by its proofs and ordinal; makes it if it is new. */
  internTwin(
    identity: Uint8Array,
    proofs: Proofs,
    ordinal: number,
    description: Description,
    use?: string,
    /** Aliases on the member where the twin was found, if they are known. */
    own?: readonly Alias[],
  ): VirtualObject {
    // Usage flags tell copies of a key apart. A twin without a copy has no `use`, since its flags may change.
    const handlesIn = (aliases: readonly Alias[]): number[] =>
      aliases
        .filter((alias) => areOfOneKey(alias.proofs, proofs))
        .filter((alias) => use === undefined || alias.use === use || (alias.isOfKey && alias.use === undefined))
        .map((alias) => alias.handle)
        // Sorted, since ordinals must be the same in every process.
        .sort((a, b) => a - b);
    const all = handlesIn(this.aliasesOf(identity));
    const here = own === undefined ? all : handlesIn(own);
    // The member's own aliases come first; a member that was away may lack some.
    const handle = [...here, ...all.filter((each) => !here.includes(each))][ordinal];
    const known =
      (handle === undefined ? undefined : this.#byHandle.get(handle)) ??
      this.#copiesOf(identity, proofs, use).find((object) => {
        const mayBe = handle === undefined || object.isProvisional;
        return object.ordinal === ordinal && mayBe && (!object.isRecorded || all.includes(object.handle));
      });
    const name = twinName(identity, proofs, use, ordinal);
    const object = this.#makeLasting(known ?? this.#intern(name, identity, description, handle), name, handle);
    if (!sameBytes(object.identity, identity)) this.rename(object, identity, description);
    object.ordinal = ordinal;
    object.use ??= use;
    return object;
  }

  /** Adds a twin that a call is about to make. The nonce keeps its handle apart from those of other processes. */
  addTwin(identity: Uint8Array, description: Description, nonce: Uint8Array, use?: string): VirtualObject {
    const object = this.#intern(Buffer.concat([identity, nonce]), identity, description, undefined);
    object.ordinal = this.withIdentity(identity).length - 1;
    object.use = use;
    return object;
  }

  /**
   * Adds an object whose handle its key record is to state. The handle is drawn at random by whoever makes the object,
   * or was given to it before, as in a backup.
   */
  addRecorded(identity: Uint8Array, description: Description, draw: () => Uint8Array, given?: number): VirtualObject {
    let handle = given;
    while (handle === undefined || (handle !== given && !this.#isFree(handle)))
      handle = Buffer.from(draw()).readUIntBE(0, 6);
    const object = new VirtualObject(handle, identity, description);
    object.isAliased = true;
    object.isRecorded = true;
    this.#byHandle.set(handle, object);
    this.#name(Buffer.concat([identity, Buffer.from(String(handle))]), object);
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

  /** Adds a session object; its handle is valid in this process only. */
  addSessionObject(identity: Uint8Array, description: Description): VirtualObject {
    const object = new VirtualObject(this.#ownHandle(), identity, description);
    this.#byHandle.set(object.handle, object);
    return object;
  }

  /** Returns a handle that is valid in this process only. */
  #ownHandle(): number {
    let handle: number;
    do {
      this.#ownHandles += 1;
      handle = LAST_HANDLE - (this.#ownHandles % MOST_SESSION_OBJECTS);
    } while (this.#byHandle.has(handle));
    return handle;
  }

  /** Gives an object that was met before the login its lasting handle; the former one names it too in this process. */
  #makeLasting(object: VirtualObject, name: Uint8Array, handle: number | undefined): VirtualObject {
    if (!object.isProvisional || !this.#seesAll()) return object;
    object.isProvisional = false;
    object.formerHandle = object.handle;
    object.handle = handle ?? this.#freeHandle(name);
    object.isAliased = handle !== undefined;
    object.isRecorded = handle !== undefined && this.#aliases.get(handle)?.isOfKey === true;
    this.#byHandle.set(object.handle, object);
    return object;
  }

  /** Gives an object another identity; its handle stays. */
  rename(object: VirtualObject, identity: Uint8Array, description: Description): void {
    this.#unname(object);
    object.identity = identity;
    object.description = description;
    if (object.session !== undefined) return;
    // A rename writes another key record.
    object.record = undefined;
    const isTaken = this.#byName.has(keyOf(identity));
    this.#name(isTaken ? Buffer.concat([identity, fingerprintOf(object.reference)]) : identity, object);
  }

  /** Removes an object that no member has any more, and marks it as destroyed. */
  remove(object: VirtualObject): void {
    object.isDestroyed = true;
    this.#unname(object);
    for (const handle of [object.handle, object.formerHandle])
      if (handle !== undefined && this.#byHandle.get(handle) === object) this.#byHandle.delete(handle);
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
    const isOfKey = handle !== undefined && this.#aliases.get(handle)?.isOfKey === true;
    // The name of a key with a record has its handle in it: others of its identity have names of their own.
    const own = isOfKey ? Buffer.concat([identity, Buffer.from(String(handle))]) : name;
    const known = (handle === undefined ? undefined : this.#byHandle.get(handle)) ?? this.#byName.get(keyOf(own));
    if (known !== undefined) {
      // Another process has renamed the object.
      if (!sameBytes(known.identity, identity)) this.rename(known, identity, description);
      return this.#makeLasting(known, name, handle);
    }
    const isProvisional = handle === undefined && !this.#seesAll();
    const free = isProvisional ? this.#ownHandle() : this.#freeHandle(name);
    const object = new VirtualObject(handle ?? free, identity, description);
    object.isProvisional = isProvisional;
    object.isAliased = handle !== undefined;
    object.isRecorded = isOfKey;
    this.#byHandle.set(object.handle, object);
    this.#name(own, object);
    return object;
  }

  // Returns the first 48 bits of the name's hash; hashes again while that handle is taken.
  #freeHandle(name: Uint8Array): number {
    let digest = this.#hash(name);
    for (;;) {
      const handle = Buffer.from(digest).readUIntBE(0, 6);
      if (this.#isFree(handle)) return handle;
      digest = this.#hash(digest);
    }
  }

  /** Returns true if a token object may get the handle. */
  #isFree(handle: number): boolean {
    const isSessionObject = handle > LAST_HANDLE - MOST_SESSION_OBJECTS;
    return handle !== 0 && !isSessionObject && !this.#byHandle.has(handle) && this.#aliases.get(handle) === undefined;
  }
}
