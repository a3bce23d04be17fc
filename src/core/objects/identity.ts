import { type Attribute, ulongBytes, ulongOf } from '../../spec/attribute.js';
import type { ReadAttribute } from '../../spec/calls.js';
import { CKA, CKK, CKO } from '../../spec/codes.js';
import { sameBytes } from '../base/bytes.js';

/** Attributes that are read of every object. CKA_VALUE is not among them, since it may be a key. */
export const describedTypes: readonly number[] = [
  CKA.class,
  CKA.keyType,
  CKA.certificateType,
  CKA.id,
  CKA.label,
  CKA.modulus,
  CKA.publicExponent,
  CKA.ecParams,
  CKA.ecPoint,
  CKA.prime,
  CKA.subprime,
  CKA.base,
  CKA.token,
  CKA.private,
  CKA.alwaysAuthenticate,
  CKA.sign,
  CKA.encrypt,
  CKA.derive,
];

/** Public value of certificates, data objects, and DSA and DH public keys, which is part of their identity. */
export const publicValueTypes: readonly number[] = [CKA.value];

/** Description of an object by a token, without the public value. */
export interface Description {
  /** CKA_CLASS; NaN for a partial object. */
  readonly class: number;
  /** CKA_KEY_TYPE or CKA_CERTIFICATE_TYPE; NaN for data objects. */
  readonly type: number;
  readonly id: Uint8Array;
  readonly label: Uint8Array;
  readonly modulus: Uint8Array;
  readonly publicExponent: Uint8Array;
  readonly ecParams: Uint8Array;
  readonly ecPoint: Uint8Array;
  /** Domain parameters of DSA and DH keys. */
  readonly prime: Uint8Array;
  readonly subprime: Uint8Array;
  readonly base: Uint8Array;
  /** False for session objects. */
  readonly token: boolean;
  readonly private: boolean;
  readonly alwaysAuthenticate: boolean;
  readonly signs: boolean;
  readonly encrypts: boolean;
  readonly derives: boolean;
}

const empty = new Uint8Array();

/** Returns the key of an identity, or of other bytes, in a Map. */
export function keyOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
}

const indexOf = new Map(describedTypes.map((type, index) => [type, index]));

function readAt(attributes: readonly ReadAttribute[], type: number): Uint8Array {
  const attribute = attributes[indexOf.get(type) ?? -1];
  return attribute?.presence === 'present' ? attribute.value : empty;
}

// Copies the value: attributes point into the reply's packet, and a description outlives that.
function valueAt(attributes: readonly ReadAttribute[], type: number): Uint8Array {
  const value = readAt(attributes, type);
  return value.length === 0 ? empty : new Uint8Array(value);
}

function isTrue(attributes: readonly ReadAttribute[], type: number): boolean {
  return readAt(attributes, type)[0] === 1;
}

/** Makes a description from the attributes of `describedTypes`, in their order. */
export function describe(attributes: readonly ReadAttribute[]): Description {
  const certificate = readAt(attributes, CKA.certificateType);
  const objectClass = ulongOf(readAt(attributes, CKA.class));
  return {
    class: objectClass,
    type: ulongOf(objectClass === CKO.certificate ? certificate : readAt(attributes, CKA.keyType)),
    id: valueAt(attributes, CKA.id),
    label: valueAt(attributes, CKA.label),
    modulus: withoutLeadingZeros(valueAt(attributes, CKA.modulus)),
    publicExponent: withoutLeadingZeros(valueAt(attributes, CKA.publicExponent)),
    ecParams: valueAt(attributes, CKA.ecParams),
    ecPoint: unwrapOctetString(valueAt(attributes, CKA.ecPoint)),
    prime: withoutLeadingZeros(valueAt(attributes, CKA.prime)),
    subprime: withoutLeadingZeros(valueAt(attributes, CKA.subprime)),
    base: withoutLeadingZeros(valueAt(attributes, CKA.base)),
    token: isTrue(attributes, CKA.token),
    private: isTrue(attributes, CKA.private),
    alwaysAuthenticate: isTrue(attributes, CKA.alwaysAuthenticate),
    signs: isTrue(attributes, CKA.sign),
    encrypts: isTrue(attributes, CKA.encrypt),
    derives: isTrue(attributes, CKA.derive),
  };
}

/** Makes a description from the values of `describedTypes`, in their order; undefined for an absent attribute. */
export function describeValues(values: readonly (Uint8Array | undefined)[]): Description {
  return describe(
    values.map((value) =>
      value === undefined
        ? { presence: 'invalid', value: Buffer.alloc(0) }
        : { presence: 'present', value: Buffer.from(value) },
    ),
  );
}

/** Prefix of the labels of the group's own objects, which applications neither see nor make. */
export const RESERVED_LABEL = 'pkcs11-ha:';

const reserved = Buffer.from(RESERVED_LABEL);

/** Returns true if a label is one of the group's own objects. */
export function isReserved(label: Uint8Array): boolean {
  return label.length >= reserved.length && sameBytes(label.subarray(0, reserved.length), reserved);
}

/** Returns true for a partial object, left by an interrupted write: it has no CKA_CLASS. */
export function isHollow(description: Description): boolean {
  return Number.isNaN(description.class);
}

/** Returns true if the object's CKA_VALUE is public and part of its identity. */
export function hasPublicValue({ class: objectClass, type }: Description): boolean {
  if (objectClass === CKO.data || objectClass === CKO.certificate) return true;
  return objectClass === CKO.publicKey && (type === CKK.dsa || type === CKK.dh);
}

/** Returns true if objects of equal identity are the same object without a proof (Rule 12). */
export function isProvenByIdentity(description: Description): boolean {
  if (hasPublicValue(description)) return true;
  if (description.class === CKO.publicKey) return description.modulus.length > 0 || description.ecPoint.length > 0;
  return description.class === CKO.privateKey && description.type === CKK.rsa && description.modulus.length > 0;
}

// Makes big integers equal: only some tokens keep leading zeros.
function withoutLeadingZeros(bytes: Uint8Array): Uint8Array {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1;
  return bytes.subarray(start);
}

// Makes EC points equal: only some tokens wrap them in an OCTET STRING.
function unwrapOctetString(bytes: Uint8Array): Uint8Array {
  if (bytes[0] !== 0x04 || bytes.length < 3) return bytes;
  const length = bytes[1] ?? 0;
  if (length < 0x80 && bytes.length === length + 2) return bytes.subarray(2);
  if (length === 0x81 && bytes.length === (bytes[2] ?? 0) + 3) return bytes.subarray(3);
  return bytes;
}

/**
 * Returns the identity of an object: class, type, CKA_ID, CKA_LABEL and public material, as canonical bytes. Objects of
 * equal identity on two members are replicas of one object. The public value enters by its digest.
 */
export function identityOf(description: Description, publicValueDigest: Uint8Array = empty): Uint8Array {
  // The public exponent is no part of a private key's identity, since not every token tells it.
  const exponent = description.class === CKO.publicKey ? description.publicExponent : empty;
  const parts = [
    ulongBytes(description.class),
    Number.isNaN(description.type) ? empty : ulongBytes(description.type),
    description.id,
    description.label,
    description.modulus,
    exponent,
    description.ecParams,
    description.class === CKO.publicKey ? description.ecPoint : empty,
    publicValueDigest,
  ];
  const identity = Buffer.alloc(parts.reduce((size, part) => size + 4 + part.length, 0));
  let at = 0;
  for (const part of parts) {
    at = identity.writeUInt32LE(part.length, at);
    identity.set(part, at);
    at += part.length;
  }
  return identity;
}

/** Returns a template that finds objects of an identity, and few others. */
export function templateOf(description: Description): readonly Attribute[] {
  const template: Attribute[] = [
    { type: CKA.class, value: ulongBytes(description.class) },
    { type: CKA.label, value: description.label },
  ];
  if (description.class !== CKO.data) {
    template.push({ type: CKA.id, value: description.id });
    const type = description.class === CKO.certificate ? CKA.certificateType : CKA.keyType;
    if (!Number.isNaN(description.type)) template.push({ type, value: ulongBytes(description.type) });
  }
  return template;
}

/** Returns a template that finds the public keys which may belong to a private key. */
export function publicHalfTemplate(description: Description): readonly Attribute[] {
  return [
    { type: CKA.class, value: ulongBytes(CKO.publicKey) },
    { type: CKA.keyType, value: ulongBytes(description.type) },
    { type: CKA.id, value: description.id },
  ];
}

/** Returns true if two descriptions may be of one object that was renamed: only label and id may differ. */
export function isRenamed(one: Description, other: Description): boolean {
  const sameKind = one.class === other.class && Object.is(one.type, other.type);
  const material = ['modulus', 'publicExponent', 'ecParams', 'ecPoint', 'prime', 'subprime', 'base'] as const;
  return sameKind && material.every((name) => sameBytes(one[name], other[name]));
}
