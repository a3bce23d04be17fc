import type { CallName } from '../../spec/calls.js';

/** What an Init begins on a session (PKCS#11 2.40, sections 5.8 to 5.13), and a search. */
export type OperationKind =
  | 'encrypt'
  | 'decrypt'
  | 'digest'
  | 'sign'
  | 'verify'
  | 'signRecover'
  | 'verifyRecover'
  | 'search';

/** The functions of one kind: with all data at once, or part by part. */
interface KindFunctions {
  readonly init: CallName;
  readonly single: CallName;
  readonly update?: CallName;
  readonly final?: CallName;
}

export type CipherKind = 'encrypt' | 'decrypt';
/** The kinds that take data: all but searches. */
export type DataKind = Exclude<OperationKind, 'search'>;

export const functionsOf: Readonly<Record<DataKind, KindFunctions>> = {
  encrypt: { init: 'C_EncryptInit', single: 'C_Encrypt', update: 'C_EncryptUpdate', final: 'C_EncryptFinal' },
  decrypt: { init: 'C_DecryptInit', single: 'C_Decrypt', update: 'C_DecryptUpdate', final: 'C_DecryptFinal' },
  digest: { init: 'C_DigestInit', single: 'C_Digest', update: 'C_DigestUpdate', final: 'C_DigestFinal' },
  sign: { init: 'C_SignInit', single: 'C_Sign', update: 'C_SignUpdate', final: 'C_SignFinal' },
  verify: { init: 'C_VerifyInit', single: 'C_Verify', update: 'C_VerifyUpdate', final: 'C_VerifyFinal' },
  signRecover: { init: 'C_SignRecoverInit', single: 'C_SignRecover' },
  verifyRecover: { init: 'C_VerifyRecoverInit', single: 'C_VerifyRecover' },
};

/** Whether an Update gives data back as it goes. */
export function isCipher(kind: DataKind): kind is CipherKind {
  return kind === 'encrypt' || kind === 'decrypt';
}

const pairs: readonly string[] = ['digest encrypt', 'decrypt digest', 'encrypt sign', 'decrypt verify'];

/** Whether two operations may be under way together: those of the dual-function calls (section 5.12). */
export function mayGoTogether(one: OperationKind, other: OperationKind): boolean {
  return pairs.includes([one, other].sort().join(' '));
}
