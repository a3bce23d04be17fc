/** An attribute as records hold it: its type, and its value in hexadecimal. */
export type NotedAttribute = readonly [type: number, value: string];

/** Which object: enough to find it on a token and to prove that it is the one. */
export interface ObjectNote {
  readonly handle: number;
  readonly ordinal: number;
  /** What identifies it, as `describedTypes` are read; null for what it does not have. */
  readonly described: readonly (string | null)[];
  /** The digest of its public value, where that identifies it. */
  readonly valueDigest: string;
  /** What it may be used for, where that tells it from copies. */
  readonly use: string | null;
  readonly proofs: Readonly<Partial<Record<ProofKind, string>>>;
}

/** How a key of the group travels: wrapped under the domain key, or for each member under its transport key. */
export type Wrapped =
  | { readonly domain: string; readonly blob: string }
  | { readonly transports: Readonly<Record<string, string>> };

/** A key that the group has made: what tokens forget of it, and its wrapped form where that is kept. */
export interface KeyRecord {
  readonly kind: 'key';
  readonly note: ObjectNote;
  readonly template: readonly NotedAttribute[];
  /** What is answered instead of a token's own answer: members made it in different ways. */
  readonly answers: readonly NotedAttribute[];
  readonly sealed: Wrapped | undefined;
  /** The call that has made it. */
  readonly operation: string;
  readonly writer: string;
  readonly time: number;
}

/** What proves that two replicas are the same key, in the order of preference (Rule 12). */
export type ProofKind = 'digest' | 'mac' | 'signature' | 'derive' | 'checkValue';
