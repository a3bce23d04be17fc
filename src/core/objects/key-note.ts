/** Attribute in a record: type, and value in hexadecimal. */
export type NotedAttribute = readonly [type: number, value: string];

/** Note of an object in a record: enough to find the object on a token and to prove it. */
export interface ObjectNote {
  readonly handle: number;
  /** Ordinal among copies that nothing else tells apart. */
  readonly ordinal: number;
  /** Values of `describedTypes` in hexadecimal, in their order; null for an absent attribute. */
  readonly described: readonly (string | null)[];
  /** Digest of the public value in hexadecimal; empty if that is no part of the identity. */
  readonly valueDigest: string;
  /** Usage flags as a text, if they must tell the object from copies of its key; else null. */
  readonly use: string | null;
  /** Proofs of the key, in hexadecimal. */
  readonly proofs: Readonly<Partial<Record<ProofKind, string>>>;
}

/** Wrapped form of a key: one under the domain key, or for each member one under its transport key, by serial. */
export type Wrapped =
  | { readonly domain: string; readonly blob: string }
  | { readonly transports: Readonly<Record<string, string>> };

/** Key record: a key that the group has made, the attributes that tokens forget, and perhaps the wrapped form. */
export interface KeyRecord {
  readonly kind: 'key';
  readonly note: ObjectNote;
  /** Digest of the key's identity, by which a find reads the record; undefined in groups of record format 1. */
  readonly identity?: string | undefined;
  /** Template that makes the key on a member. */
  readonly template: readonly NotedAttribute[];
  /** Answers that the group gives instead of the token, since members made the key in different ways. */
  readonly answers: readonly NotedAttribute[];
  /** Wrapped form, kept for members that come later; undefined if it is not kept. */
  readonly sealed: Wrapped | undefined;
  /** Id of the call that made the key. */
  readonly operation: string;
  /** Process that wrote the record (see `Coordinator.writer`). */
  readonly writer: string;
  /** Timestamp (see `Group.nextTimestamp`). */
  readonly time: number;
}

/** Kinds of proofs that two replicas are the same key, the best first (Rule 12). */
export type ProofKind = 'digest' | 'mac' | 'signature' | 'derive' | 'checkValue';
