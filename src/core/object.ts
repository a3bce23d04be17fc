import type { ObjectSummary } from './event.js';
import type { Description } from './identity.js';

/** What proves that two replicas are the same key, in the order of preference (Rule 12). */
export type ProofKind = 'digest' | 'mac' | 'signature' | 'derive' | 'checkValue';

/** How an object stands on one member, for the status. */
export type Standing = 'proven' | 'unproven' | 'misaligned' | 'absent';

/** An object as the application sees it; one for each identity, and one for each of twins. */
export class VirtualObject {
  /** The group's fingerprint: proofs from the first member in the configuration's order that has the object. */
  readonly reference: Map<ProofKind, Uint8Array> = new Map<ProofKind, Uint8Array>();
  referenced: boolean = false;
  readonly standings: Map<string, Standing> = new Map<string, Standing>();

  constructor(
    /** 48 bits, the same in every process and after every restart. */
    readonly handle: number,
    readonly identity: Uint8Array,
    readonly description: Description,
    /** Among exact copies on one member: which. */
    readonly ordinal: number = 0,
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

/** All virtual objects that this process has met. */
export class ObjectTable {
  readonly #byHandle = new Map<number, VirtualObject>();
  readonly #byName = new Map<string, VirtualObject>();
  readonly #hash: Hash;

  constructor(hash: Hash) {
    this.#hash = hash;
  }

  get(handle: number): VirtualObject | undefined {
    return this.#byHandle.get(handle);
  }

  values(): IterableIterator<VirtualObject> {
    return this.#byHandle.values();
  }

  /** The object of an identity, whichever member it was met on. */
  intern(identity: Uint8Array, description: Description): VirtualObject {
    return this.#intern(identity, identity, description, 0);
  }

  /** A twin: one of several objects of one identity on a member, told apart by its fingerprint and ordinal. */
  internTwin(identity: Uint8Array, fingerprint: Uint8Array, ordinal: number, description: Description): VirtualObject {
    const name = Buffer.concat([identity, fingerprint, Uint8Array.of(ordinal)]);
    return this.#intern(name, identity, description, ordinal);
  }

  #intern(name: Uint8Array, identity: Uint8Array, description: Description, ordinal: number): VirtualObject {
    const key = keyOf(name);
    const known = this.#byName.get(key);
    if (known !== undefined) return known;
    const object = new VirtualObject(this.#freeHandle(name), identity, description, ordinal);
    this.#byName.set(key, object);
    this.#byHandle.set(object.handle, object);
    return object;
  }

  // The first 48 bits of the hash; the full name is what is compared, so a collision hashes again.
  #freeHandle(name: Uint8Array): number {
    let digest = this.#hash(name);
    for (;;) {
      const handle = Buffer.from(digest).readUIntBE(0, 6);
      if (handle !== 0 && !this.#byHandle.has(handle)) return handle;
      digest = this.#hash(digest);
    }
  }
}
