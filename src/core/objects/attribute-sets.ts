import { ck } from '../../spec/constants.js';

/** Attributes that are stated when an object is made on other members, since tokens differ in their defaults. */
export const statedTypes: readonly number[] = [
  'PRIVATE',
  'MODIFIABLE',
  'LABEL',
  'ID',
  'SUBJECT',
  'START_DATE',
  'END_DATE',
  'SENSITIVE',
  'EXTRACTABLE',
  'ENCRYPT',
  'DECRYPT',
  'SIGN',
  'SIGN_RECOVER',
  'VERIFY',
  'VERIFY_RECOVER',
  'WRAP',
  'UNWRAP',
  'DERIVE',
  'WRAP_WITH_TRUSTED',
  'ALWAYS_AUTHENTICATE',
].map((name) => ck(`CKA_${name}`));

/** Attributes that tokens forget when a key is unwrapped; the group answers them from the key record. */
export const forgottenTypes: readonly number[] = [
  'LOCAL',
  'KEY_GEN_MECHANISM',
  'ALWAYS_SENSITIVE',
  'NEVER_EXTRACTABLE',
  'VALUE_LEN',
  'VALUE_BITS',
  'MODULUS_BITS',
  'CHECK_VALUE',
].map((name) => ck(`CKA_${name}`));

/** Attributes that make up a public key. */
export const materialTypes: readonly number[] = [
  'MODULUS',
  'PUBLIC_EXPONENT',
  'PRIME',
  'SUBPRIME',
  'BASE',
  'EC_PARAMS',
  'EC_POINT',
].map((name) => ck(`CKA_${name}`));

/** Attributes that make up a key or say how to make one; the template for unwrapping a key leaves them out. */
export const secretTypes: ReadonlySet<number> = new Set(
  [
    'VALUE',
    'VALUE_LEN',
    'MODULUS',
    'MODULUS_BITS',
    'PUBLIC_EXPONENT',
    'PRIVATE_EXPONENT',
    'PRIME_1',
    'PRIME_2',
    'EXPONENT_1',
    'EXPONENT_2',
    'COEFFICIENT',
    'PRIME',
    'SUBPRIME',
    'BASE',
    'PRIME_BITS',
    'VALUE_BITS',
    'EC_PARAMS',
    'EC_POINT',
    'CHECK_VALUE',
  ].map((name) => ck(`CKA_${name}`)),
);
