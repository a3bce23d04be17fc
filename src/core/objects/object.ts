import type { Attribute } from '../../spec/attribute.js';
import { sameBytes } from '../base/bytes.js';
import type { ObjectSummary } from '../base/event.js';
import type { Description } from './identity.js';
import type { KeyRecord, ProofKind } from './key-note.js';

/** Status of an object's replica on one member. */
export type ReplicaStatus = 'proven' | 'unproven' | 'misaligned' | 'absent';

/** Material of a session object, from which it is made again after a host was replaced. */
export interface SessionMaterial {
  /** Template that makes the object; empty if it cannot be made again. */
  template: readonly Attribute[];
  /** Wrapped form of the key; undefined if there is none. */
  readonly wrapped: KeyRecord['sealed'];
  /** Answers that the group gives instead of the token (see KeyRecord). */
  readonly answers: KeyRecord['answers'];
}

/** Object as the application sees it: one for each identity, or one for each twin if several share an identity. */
export class VirtualObject {
  /** Reference: the group's proofs of the key (see replicas/reference.ts). */
  readonly reference: Map<ProofKind, Uint8Array> = new Map<ProofKind, Uint8Array>();
  /** True once the reference was taken, even if no proof could be had. */
  referenced: boolean = false;
  /** Status of the object's replicas, by the member's name. */
  readonly replicaStatus: Map<string, ReplicaStatus> = new Map<string, ReplicaStatus>();
  /** Values of `describedTypes`, in their order; set before a record of the object is written. */
  described: readonly (Uint8Array | undefined)[] = [];
  /** Digest of the public value; empty if that is no part of the identity. */
  valueDigest: Uint8Array = new Uint8Array();
  /** Key record: undefined until a search for it, null if there is none. */
  record: KeyRecord | null | undefined;
  /** Material of a session object; undefined for a token object. */
  session: SessionMaterial | undefined;
  /** Usage flags as a text (see replicas/copies.ts), if they must tell the object from copies of its key. */
  use: string | undefined;
  /** True if the handle comes from an alias record or key record; without that record this object does not exist. */
  isAliased: boolean = false;
  /** True if the handle stands in the object's key record. */
  isRecorded: boolean = false;
  /** True until the members are logged in: the handle is valid in this process only. */
  isProvisional: boolean = false;
  /** Handle of the object before the login; it still names the object in this process. */
  formerHandle: number | undefined;
  /** True once no member has the object; its handle is then void. */
  isDestroyed: boolean = false;

  constructor(
    /**
     * Virtual handle: 48 bits, the same in every process and after every restart (Rule 11). Changes once, at the login,
     * for an object that was met before (`isProvisional`).
     */
    public handle: number,
    /** Identity; changes with the description when the object is renamed. */
    public identity: Uint8Array,
    public description: Description,
    /** Ordinal among copies that nothing else tells apart, in the order of their handles. */
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

/** Kinds of proofs, the best first. */
const byPreference: readonly ProofKind[] = ['digest', 'mac', 'signature', 'derive'];

/** Proofs of a key, by kind. */
export type Proofs = ReadonlyMap<ProofKind, Uint8Array>;

/** Returns the fingerprint of a key, its best proof, from which a twin's handle is made; empty without a proof. */
export function fingerprintOf(proofs: Proofs): Uint8Array {
  const kind = byPreference.find((each) => proofs.has(each));
  return kind === undefined
    ? new Uint8Array()
    : Buffer.concat([Buffer.from(kind), proofs.get(kind) ?? new Uint8Array()]);
}

/**
 * Tells whether proofs are of one key. Only kinds that both have decide, since members can give different kinds. If no
 * kind is common, the answer is true only if neither has a fingerprint.
 */
export function areOfOneKey(one: Proofs, other: Proofs): boolean {
  const common = byPreference.filter((kind) => one.has(kind) && other.has(kind));
  if (common.length === 0) return fingerprintOf(one).length === 0 && fingerprintOf(other).length === 0;
  return common.every((kind) => sameBytes(one.get(kind) as Uint8Array, other.get(kind) as Uint8Array));
}

/** Returns a copy of an object outside the object table, for work that changes what is noted of it. */
export function detached(object: VirtualObject): VirtualObject {
  const copy = Object.create(Object.getPrototypeOf(object)) as VirtualObject;
  return Object.assign(copy, object, { reference: new Map(object.reference) });
}
