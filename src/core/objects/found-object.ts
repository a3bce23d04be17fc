import { sameBytes } from '../base/bytes.js';
import { type Description, keyOf } from './identity.js';

/** Object found on a member. */
export interface FoundReplica {
  /** Real handle: eight bytes. */
  readonly handle: Uint8Array;
  readonly description: Description;
  readonly identity: Uint8Array;
  /** Digest of the public value; empty if that is no part of the identity. */
  readonly valueDigest: Uint8Array;
  /** EC point or DSA public value, which checks signatures of the private key. */
  readonly publicPoint: Uint8Array;
}

/** All token objects of applications on a member, found under one login (`epoch`), by identity. */
export class Survey {
  readonly #byIdentity = new Map<string, FoundReplica[]>();

  constructor(
    readonly objects: readonly FoundReplica[],
    readonly epoch: number,
  ) {
    for (const found of objects) this.add(found);
  }

  /** Adds an object that was written since. */
  add(found: FoundReplica): void {
    const key = keyOf(found.identity);
    const same = this.#byIdentity.get(key);
    if (same === undefined) this.#byIdentity.set(key, [found]);
    else same.push(found);
  }

  /** Removes an object that was destroyed since. */
  remove(identity: Uint8Array, handle: Uint8Array): void {
    const same = this.#byIdentity.get(keyOf(identity)) ?? [];
    const left = same.filter((found) => !sameBytes(found.handle, handle));
    this.#byIdentity.set(keyOf(identity), left);
  }

  of(identity: Uint8Array): readonly FoundReplica[] {
    return this.#byIdentity.get(keyOf(identity)) ?? [];
  }
}
