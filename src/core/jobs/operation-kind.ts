import type { CallName } from '../../spec/calls.js';

/** Kind of an operation that an Init begins on a session (PKCS#11 2.40, sections 5.8 to 5.13), or a search. */
export type OperationKind =
  | 'encrypt'
  | 'decrypt'
  | 'digest'
  | 'sign'
  | 'verify'
  | 'signRecover'
  | 'verifyRecover'
  | 'search';

/** Functions of one kind: `single` takes all data at once, `update` and `final` take it in parts. */
interface KindFunctions {
  readonly init: CallName;
  readonly single: CallName;
  readonly update?: CallName;
  readonly final?: CallName;
}

/** Kinds whose Update returns data. */
export type CipherKind = 'encrypt' | 'decrypt';
/** Kinds that take data: all except searches. */
export type DataKind = Exclude<OperationKind, 'search'>;

/** Functions of each kind; recovery has no multi-part form. */
export const functionsOf: Readonly<Record<DataKind, KindFunctions>> = {
  encrypt: { init: 'C_EncryptInit', single: 'C_Encrypt', update: 'C_EncryptUpdate', final: 'C_EncryptFinal' },
  decrypt: { init: 'C_DecryptInit', single: 'C_Decrypt', update: 'C_DecryptUpdate', final: 'C_DecryptFinal' },
  digest: { init: 'C_DigestInit', single: 'C_Digest', update: 'C_DigestUpdate', final: 'C_DigestFinal' },
  sign: { init: 'C_SignInit', single: 'C_Sign', update: 'C_SignUpdate', final: 'C_SignFinal' },
  verify: { init: 'C_VerifyInit', single: 'C_Verify', update: 'C_VerifyUpdate', final: 'C_VerifyFinal' },
  signRecover: { init: 'C_SignRecoverInit', single: 'C_SignRecover' },
  verifyRecover: { init: 'C_VerifyRecoverInit', single: 'C_VerifyRecover' },
};

/** Returns true if an Update of this kind returns data. */
export function isCipher(kind: DataKind): kind is CipherKind {
  return kind === 'encrypt' || kind === 'decrypt';
}

const pairs: readonly string[] = ['digest encrypt', 'decrypt digest', 'encrypt sign', 'decrypt verify'];

/** Returns true if two operations may be active together, as the dual-function calls need (section 5.12). */
export function mayGoTogether(one: OperationKind, other: OperationKind): boolean {
  return pairs.includes([one, other].sort().join(' '));
}
