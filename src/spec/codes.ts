import { ck } from './constants.js';

/** Returns the constants of a prefix by name in camel case: `keyType` for CKA_KEY_TYPE. */
function named<N extends string>(prefix: string, names: readonly N[]): Readonly<Record<N, number>> {
  const entries = names.map((name) => [name, ck(`${prefix}_${name.replace(/[A-Z]/gu, '_$&').toUpperCase()}`)]);
  return Object.fromEntries(entries) as Record<N, number>;
}

const attributes = [
  'alwaysAuthenticate',
  'application',
  'base',
  'certificateType',
  'checkValue',
  'class',
  'copyable',
  'derive',
  'destroyable',
  'ecParams',
  'ecPoint',
  'encrypt',
  'endDate',
  'extractable',
  'id',
  'keyType',
  'label',
  'modifiable',
  'modulus',
  'modulusBits',
  'objectId',
  'prime',
  'private',
  'publicExponent',
  'sensitive',
  'sign',
  'startDate',
  'subprime',
  'token',
  'url',
  'value',
  'valueLen',
  'verify',
  'wrap',
] as const;

/** Attribute types that this package names. */
export const CKA: Readonly<Record<(typeof attributes)[number], number>> = named('CKA', attributes);

const classes = ['certificate', 'data', 'privateKey', 'publicKey', 'secretKey'] as const;

/** Object classes that this package names. */
export const CKO: Readonly<Record<(typeof classes)[number], number>> = named('CKO', classes);

const keyTypes = [
  'aes',
  'des3',
  'dh',
  'dsa',
  'ec',
  'ecEdwards',
  'ecMontgomery',
  'genericSecret',
  'hss',
  'rsa',
  'xmss',
  'xmssmt',
] as const;

/** Key types that this package names. */
export const CKK: Readonly<Record<(typeof keyTypes)[number], number>> = named('CKK', keyTypes);

const returnValues = [
  'actionProhibited',
  'argumentsBad',
  'attributeReadOnly',
  'attributeSensitive',
  'attributeTypeInvalid',
  'attributeValueInvalid',
  'bufferTooSmall',
  'cryptokiAlreadyInitialized',
  'cryptokiNotInitialized',
  'dataInvalid',
  'deviceError',
  'deviceMemory',
  'deviceRemoved',
  'functionCanceled',
  'functionFailed',
  'functionNotSupported',
  'generalError',
  'hostMemory',
  'keyHandleInvalid',
  'keyNotWrappable',
  'keyTypeInconsistent',
  'mechanismInvalid',
  'mechanismParamInvalid',
  'objectHandleInvalid',
  'ok',
  'operationActive',
  'operationNotInitialized',
  'pinExpired',
  'pinIncorrect',
  'pinLenRange',
  'pinLocked',
  'sessionCount',
  'sessionHandleInvalid',
  'sessionParallelNotSupported',
  'sessionReadOnly',
  'signatureInvalid',
  'signatureLenRange',
  'slotIdInvalid',
  'templateIncomplete',
  'templateInconsistent',
  'tokenWriteProtected',
  'unwrappingKeyHandleInvalid',
  'unwrappingKeyTypeInconsistent',
  'userAlreadyLoggedIn',
  'userNotLoggedIn',
  'userPinNotInitialized',
  'userTypeInvalid',
  'wrappingKeyHandleInvalid',
  'wrappingKeyTypeInconsistent',
] as const;

/** Return values that this package names. */
export const CKR: Readonly<Record<(typeof returnValues)[number], number>> = named('CKR', returnValues);

const flags = [
  'clockOnToken',
  'derive',
  'dontBlock',
  'dualCryptoOperations',
  'hw',
  'loginRequired',
  'rng',
  'rwSession',
  'serialSession',
  'tokenInitialized',
  'tokenPresent',
  'unwrap',
  'userPinCountLow',
  'userPinFinalTry',
  'userPinInitialized',
  'userPinLocked',
  'userPinToBeChanged',
  'wrap',
  'writeProtected',
] as const;

/** Flags of slots, tokens, sessions and mechanisms that this package names. */
export const CKF: Readonly<Record<(typeof flags)[number], number>> = named('CKF', flags);

const users = ['contextSpecific', 'so', 'user'] as const;

/** User types that this package names. */
export const CKU: Readonly<Record<(typeof users)[number], number>> = named('CKU', users);
