import { ck } from '../../spec/constants.js';

/** What is stated when an object is made on other members: all that can be, since tokens differ in what they assume. */
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

/** What tokens forget when a key is unwrapped: the group answers it from the key's record. */
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

/** What a public key is made of. */
export const materialTypes: readonly number[] = [
  'MODULUS',
  'PUBLIC_EXPONENT',
  'PRIME',
  'SUBPRIME',
  'BASE',
  'EC_PARAMS',
  'EC_POINT',
].map((name) => ck(`CKA_${name}`));

/** What makes up a key, or only says how to make one: no part of the template that it is unwrapped with. */
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
