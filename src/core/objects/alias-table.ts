import type { Proofs } from './object.js';

/** Handle that a record gives to an object. */
export interface Alias {
  readonly handle: number;
  /** Digest of the object's identity, in hexadecimal. */
  readonly identity: string;
  /** Proofs of the object's key. */
  readonly proofs: Proofs;
  /** Usage flags as a text, if they must tell the object from copies of its key. */
  readonly use: string | undefined;
  /** Timestamp of the record. */
  readonly time: number;
  /** True if the handle stands in the object's key record; false for an alias record. */
  readonly isOfKey: boolean;
}

/** Aliases by handle and by identity. Of several records of a handle the newest counts. */
export class AliasTable {
  readonly #byHandle = new Map<number, Alias>();
  readonly #byIdentity = new Map<string, Alias[]>();

  get size(): number {
    return this.#byHandle.size;
  }

  get(handle: number): Alias | undefined {
    return this.#byHandle.get(handle);
  }

  /** Returns the aliases of an identity, given by its digest in hexadecimal. */
  of(identity: string): readonly Alias[] {
    return this.#byIdentity.get(identity) ?? [];
  }

  /** Adds an alias, unless one of that handle is as new. */
  add(alias: Alias): void {
    const known = this.#byHandle.get(alias.handle);
    if (known !== undefined && known.time >= alias.time) return;
    // The record of a key says more than an alias record that is left from an earlier format.
    if (known?.isOfKey === true && !alias.isOfKey && known.identity === alias.identity) return;
    this.drop(alias.handle);
    this.#byHandle.set(alias.handle, alias);
    const same = this.#byIdentity.get(alias.identity);
    if (same === undefined) this.#byIdentity.set(alias.identity, [alias]);
    else same.push(alias);
  }

  /** Removes the alias of a handle that is void. */
  drop(handle: number): void {
    const known = this.#byHandle.get(handle);
    if (known === undefined) return;
    this.#byHandle.delete(handle);
    const left = this.of(known.identity).filter((alias) => alias !== known);
    if (left.length === 0) this.#byIdentity.delete(known.identity);
    else this.#byIdentity.set(known.identity, left);
  }

  /** Replaces the aliases of all alias records. */
  replaceRecorded(aliases: readonly Alias[]): void {
    for (const alias of [...this.#byHandle.values()]) if (!alias.isOfKey) this.drop(alias.handle);
    for (const alias of aliases) this.add(alias);
  }

  /** Replaces the aliases that key records give to objects of an identity. */
  replaceKeys(identity: string, aliases: readonly Alias[]): void {
    const found = new Set(aliases.map(({ handle }) => handle));
    for (const alias of this.of(identity)) if (alias.isOfKey && !found.has(alias.handle)) this.drop(alias.handle);
    for (const alias of aliases) this.add(alias);
  }
}
