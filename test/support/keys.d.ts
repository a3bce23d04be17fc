import type { KeyObject } from 'node:crypto';

/** Attributes by their CKA names; bytes as `hex:…`. */
export type ObjectSpec = Readonly<Record<string, number | boolean | string>>;

export interface PairSpec {
  readonly label: string;
  readonly id: Buffer;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  readonly objects: readonly ObjectSpec[];
}

export interface SecretSpec {
  readonly label: string;
  readonly id: Buffer;
  readonly value: Buffer;
  readonly key: KeyObject;
  readonly objects: readonly ObjectSpec[];
}

export function rsaPair(label: string, id?: Buffer, bits?: number): PairSpec;
export function ecPair(label: string, id?: Buffer, curve?: 'P-256' | 'P-384' | 'P-521'): PairSpec;
export function edPair(label: string, id?: Buffer): PairSpec;
export function secretKey(
  label: string,
  id?: Buffer,
  options?: { readonly type?: 'AES' | 'GENERIC_SECRET'; readonly value?: Buffer },
): SecretSpec;
