import { sameBytes } from '../base/bytes.js';
import type { Description } from './identity.js';

/** An object as it was found on a member. */
export interface FoundReplica {
  readonly handle: Uint8Array;
  readonly description: Description;
  readonly identity: Uint8Array;
  /** The digest of its public value, where that is part of the identity. */
  readonly valueDigest: Uint8Array;
  /** What signatures of its private half are checked with: the EC point, or the DSA public value. */
  readonly publicPoint: Uint8Array;
}

const keyOf = (identity: Uint8Array): string =>
  Buffer.from(identity.buffer, identity.byteOffset, identity.byteLength).toString('latin1');

/** All token objects of the applications on a member, as they were found under one login. */
export class Survey {
  readonly #byIdentity = new Map<string, FoundReplica[]>();

  constructor(
    readonly objects: readonly FoundReplica[],
    readonly epoch: number,
  ) {
    for (const found of objects) this.add(found);
  }

  /** What was put there since. */
  add(found: FoundReplica): void {
    const key = keyOf(found.identity);
    const same = this.#byIdentity.get(key);
    if (same === undefined) this.#byIdentity.set(key, [found]);
    else same.push(found);
  }

  /** What was taken away since. */
  remove(identity: Uint8Array, handle: Uint8Array): void {
    const same = this.#byIdentity.get(keyOf(identity)) ?? [];
    const left = same.filter((found) => !sameBytes(found.handle, handle));
    this.#byIdentity.set(keyOf(identity), left);
  }

  of(identity: Uint8Array): readonly FoundReplica[] {
    return this.#byIdentity.get(keyOf(identity)) ?? [];
  }
}
