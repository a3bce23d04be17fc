import { ck, findConstant } from './constants.js';
import { bytesIn, bytesOf, InputError, isDate } from './input.js';
import { insteadOf } from './suggestion.js';

/** Form of an attribute's value (PKCS#11 2.40, section 4). */
type AttributeKind = 'number' | 'boolean' | 'string' | 'bytes' | 'date';

/** Attribute as this package knows it. */
interface AttributeDefinition {
  readonly name: string;
  readonly type: number;
  readonly kind: AttributeKind;
  /**
   * Prefix of the constants that may stand for a number (`class: 'SECRET_KEY'` has CKO_); undefined if there are none.
   */
  readonly prefix: string | undefined;
}

/** Attribute in wire form. */
export interface Attribute {
  readonly type: number;
  readonly value: Uint8Array;
  /**
   * Number of bytes of the job's secret that follow `value`. Only the last attribute of a job's last call may have it:
   * the channel appends the secret from guarded memory.
   */
  readonly secretLength?: number;
}

type Row = readonly [name: string, constant: string, kind: AttributeKind, prefix?: string];

// Names are graphene-pk11's.
const rows: readonly Row[] = [
  ['class', 'CKA_CLASS', 'number', 'CKO_'],
  ['token', 'CKA_TOKEN', 'boolean'],
  ['private', 'CKA_PRIVATE', 'boolean'],
  ['label', 'CKA_LABEL', 'string'],
  ['application', 'CKA_APPLICATION', 'string'],
  ['value', 'CKA_VALUE', 'bytes'],
  ['objectId', 'CKA_OBJECT_ID', 'bytes'],
  ['certType', 'CKA_CERTIFICATE_TYPE', 'number', 'CKC_'],
  ['issuer', 'CKA_ISSUER', 'bytes'],
  ['serial', 'CKA_SERIAL_NUMBER', 'bytes'],
  ['trusted', 'CKA_TRUSTED', 'boolean'],
  ['certCategory', 'CKA_CERTIFICATE_CATEGORY', 'number'],
  ['url', 'CKA_URL', 'string'],
  ['checkValue', 'CKA_CHECK_VALUE', 'bytes'],
  ['keyType', 'CKA_KEY_TYPE', 'number', 'CKK_'],
  ['subject', 'CKA_SUBJECT', 'bytes'],
  ['id', 'CKA_ID', 'bytes'],
  ['sensitive', 'CKA_SENSITIVE', 'boolean'],
  ['encrypt', 'CKA_ENCRYPT', 'boolean'],
  ['decrypt', 'CKA_DECRYPT', 'boolean'],
  ['wrap', 'CKA_WRAP', 'boolean'],
  ['unwrap', 'CKA_UNWRAP', 'boolean'],
  ['sign', 'CKA_SIGN', 'boolean'],
  ['signRecover', 'CKA_SIGN_RECOVER', 'boolean'],
  ['verify', 'CKA_VERIFY', 'boolean'],
  ['verifyRecover', 'CKA_VERIFY_RECOVER', 'boolean'],
  ['derive', 'CKA_DERIVE', 'boolean'],
  ['startDate', 'CKA_START_DATE', 'date'],
  ['endDate', 'CKA_END_DATE', 'date'],
  ['modulus', 'CKA_MODULUS', 'bytes'],
  ['modulusBits', 'CKA_MODULUS_BITS', 'number'],
  ['publicExponent', 'CKA_PUBLIC_EXPONENT', 'bytes'],
  ['privateExponent', 'CKA_PRIVATE_EXPONENT', 'bytes'],
  ['prime1', 'CKA_PRIME_1', 'bytes'],
  ['prime2', 'CKA_PRIME_2', 'bytes'],
  ['exp1', 'CKA_EXPONENT_1', 'bytes'],
  ['exp2', 'CKA_EXPONENT_2', 'bytes'],
  ['coefficient', 'CKA_COEFFICIENT', 'bytes'],
  ['prime', 'CKA_PRIME', 'bytes'],
  ['subprime', 'CKA_SUBPRIME', 'bytes'],
  ['base', 'CKA_BASE', 'bytes'],
  ['primeBits', 'CKA_PRIME_BITS', 'number'],
  ['valueBits', 'CKA_VALUE_BITS', 'number'],
  ['valueLen', 'CKA_VALUE_LEN', 'number'],
  ['extractable', 'CKA_EXTRACTABLE', 'boolean'],
  ['local', 'CKA_LOCAL', 'boolean'],
  ['neverExtractable', 'CKA_NEVER_EXTRACTABLE', 'boolean'],
  ['alwaysSensitive', 'CKA_ALWAYS_SENSITIVE', 'boolean'],
  ['keyGenMechanism', 'CKA_KEY_GEN_MECHANISM', 'number'],
  ['modifiable', 'CKA_MODIFIABLE', 'boolean'],
  ['copyable', 'CKA_COPYABLE', 'boolean'],
  ['destroyable', 'CKA_DESTROYABLE', 'boolean'],
  ['paramsECDSA', 'CKA_ECDSA_PARAMS', 'bytes'],
  ['paramsEC', 'CKA_EC_PARAMS', 'bytes'],
  ['pointEC', 'CKA_EC_POINT', 'bytes'],
  ['alwaysAuthenticate', 'CKA_ALWAYS_AUTHENTICATE', 'boolean'],
  ['wrapTrusted', 'CKA_WRAP_WITH_TRUSTED', 'boolean'],
];

const definitions: readonly AttributeDefinition[] = rows.map(([name, constant, kind, prefix]) => ({
  name,
  type: ck(constant),
  kind,
  prefix,
}));

const byName = new Map(definitions.map((definition) => [definition.name, definition]));
// Reversed order: if two names share a type (paramsECDSA, paramsEC), the older name is kept.
const byType = new Map([...definitions].reverse().map((definition) => [definition.type, definition]));

/**
 * Returns the definition of an attribute by graphene's name or by CKA number. An attribute of unknown number has bytes;
 * an unknown name is an InputError.
 */
export function attributeOf(field: string, key: string | number): AttributeDefinition {
  if (typeof key === 'number') {
    return byType.get(key) ?? { name: `0x${key.toString(16)}`, type: key, kind: 'bytes', prefix: undefined };
  }
  const definition = byName.get(key);
  if (definition === undefined)
    throw new InputError(field, `the name of an attribute ${insteadOf(key, [...byName.keys()])}`, key);
  return definition;
}

/** Encodes a CK_ULONG as eight bytes, little endian. */
export function ulongBytes(value: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** Decodes a CK_ULONG of eight bytes; NaN for bytes of another length. */
export function ulongOf(value: Uint8Array): number {
  return value.length === 8 ? Number(Buffer.from(value).readBigUInt64LE()) : Number.NaN;
}

function dateBytes(date: Date): Uint8Array {
  return Buffer.from(date.toISOString().slice(0, 10).replaceAll('-', ''), 'latin1');
}

/**
 * Encodes an attribute's value from friendly or raw form. The InputError for a wrong value never contains the value.
 */
export function encodeAttribute(field: string, definition: AttributeDefinition, value: unknown): Attribute {
  const { type, kind, prefix } = definition;
  const bytes = bytesIn(value);
  if (bytes !== undefined) return { type, value: bytes };
  if (kind === 'number') {
    if (typeof value === 'string' && prefix !== undefined) {
      const constant = findConstant(prefix + value);
      if (constant !== undefined) return { type, value: ulongBytes(constant) };
    }
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0)
      return { type, value: ulongBytes(value) };
    throw new InputError(field, prefix === undefined ? 'a number' : `a number or a name after ${prefix}`, value);
  }
  if (kind === 'boolean') {
    if (typeof value === 'boolean') return { type, value: Uint8Array.of(value ? 1 : 0) };
    throw new InputError(field, 'true or false', value);
  }
  if (kind === 'date') {
    if (isDate(value)) return { type, value: dateBytes(value) };
    throw new InputError(field, 'a Date', value);
  }
  // Attributes that this version does not know have kind bytes; pkcs11js takes numbers and booleans for them.
  if (kind === 'bytes' && typeof value === 'number') return { type, value: ulongBytes(value) };
  if (kind === 'bytes' && typeof value === 'boolean') return { type, value: Uint8Array.of(value ? 1 : 0) };
  return { type, value: bytesOf(field, value) };
}

/** Attribute's value in friendly form; null for a date that cannot be read. */
export type AttributeValue = number | boolean | string | Buffer | Date | null;

/** Decodes an attribute's value into friendly form. */
export function decodeAttribute(definition: AttributeDefinition, value: Uint8Array): AttributeValue {
  const bytes = Buffer.from(value);
  switch (definition.kind) {
    case 'number':
      return ulongOf(bytes);
    case 'boolean':
      return bytes.length > 0 && bytes[0] !== 0;
    case 'string':
      return bytes.toString('utf8');
    case 'date': {
      const text = bytes.toString('latin1');
      return /^\d{8}$/u.test(text)
        ? new Date(`${text.slice(0, 4)}-${text.slice(4, 6)}-${text.slice(6)}T00:00:00Z`)
        : null;
    }
    default:
      return bytes;
  }
}
