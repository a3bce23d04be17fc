import { type Attribute, ulongBytes, ulongOf } from '../../spec/attribute.js';
import type { ReadAttribute } from '../../spec/calls.js';
import { CKA, CKK, CKO } from '../../spec/codes.js';
import { sameBytes } from '../base/bytes.js';

/** What is read of every object that is met. CKA_VALUE is not among it: it may be a key. */
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

/** The public value of certificates, data objects and of DSA and DH public keys, where it identifies them. */
export const publicValueTypes: readonly number[] = [CKA.value];

/** An object as a token describes it, without its public value. */
export interface Description {
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

const placeOf = new Map(describedTypes.map((type, index) => [type, index]));

function readAt(attributes: readonly ReadAttribute[], type: number): Uint8Array {
  const attribute = attributes[placeOf.get(type) ?? -1];
  return attribute?.presence === 'present' ? attribute.value : empty;
}

// Copied: what is read lives in the reply's packet, a description lives on.
function valueAt(attributes: readonly ReadAttribute[], type: number): Uint8Array {
  const value = readAt(attributes, type);
  return value.length === 0 ? empty : new Uint8Array(value);
}

function isTrue(attributes: readonly ReadAttribute[], type: number): boolean {
  return readAt(attributes, type)[0] === 1;
}

/** Reads `describedTypes`. */
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

/** Labels that begin like this are the group's own: nobody sees such objects, and nobody may make them. */
export const RESERVED_LABEL = 'pkcs11-ha:';

const reserved = Buffer.from(RESERVED_LABEL);

export function isReserved(label: Uint8Array): boolean {
  return label.length >= reserved.length && sameBytes(label.subarray(0, reserved.length), reserved);
}

/** What an interrupted write leaves: an object that does not say what it is. */
export function isHollow(description: Description): boolean {
  return Number.isNaN(description.class);
}

/** Whether the object's CKA_VALUE is public and part of its identity. */
export function hasPublicValue({ class: objectClass, type }: Description): boolean {
  if (objectClass === CKO.data || objectClass === CKO.certificate) return true;
  return objectClass === CKO.publicKey && (type === CKK.dsa || type === CKK.dh);
}

/** Whether objects of equal identity are the same object, with nothing left to prove. */
export function isProvenByIdentity(description: Description): boolean {
  if (hasPublicValue(description)) return true;
  if (description.class === CKO.publicKey) return description.modulus.length > 0 || description.ecPoint.length > 0;
  return description.class === CKO.privateKey && description.type === CKK.rsa && description.modulus.length > 0;
}

// Tokens differ in whether big integers carry leading zeros, and whether points are wrapped.
function withoutLeadingZeros(bytes: Uint8Array): Uint8Array {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1;
  return bytes.subarray(start);
}

function unwrapOctetString(bytes: Uint8Array): Uint8Array {
  if (bytes[0] !== 0x04 || bytes.length < 3) return bytes;
  const length = bytes[1] ?? 0;
  if (length < 0x80 && bytes.length === length + 2) return bytes.subarray(2);
  if (length === 0x81 && bytes.length === (bytes[2] ?? 0) + 3) return bytes.subarray(3);
  return bytes;
}

/**
 * What makes objects on two members the same object: class, type, CKA_ID, CKA_LABEL and public material.
 * Canonical bytes, the same for every token and every process; `publicValue` by its digest.
 */
export function identityOf(description: Description, publicValueDigest: Uint8Array = empty): Uint8Array {
  // The public exponent is no part of a private key's identity: not every token tells it.
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

/** A template that finds objects of the identity and few others. */
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

/** A template that finds the public keys that may belong to a private key. */
export function publicHalfTemplate(description: Description): readonly Attribute[] {
  return [
    { type: CKA.class, value: ulongBytes(CKO.publicKey) },
    { type: CKA.keyType, value: ulongBytes(description.type) },
    { type: CKA.id, value: description.id },
  ];
}

/** Whether two descriptions may be of one object that has got another label or id. */
export function isRenamed(one: Description, other: Description): boolean {
  const sameKind = one.class === other.class && Object.is(one.type, other.type);
  const material = ['modulus', 'publicExponent', 'ecParams', 'ecPoint', 'prime', 'subprime', 'base'] as const;
  return sameKind && material.every((name) => sameBytes(one[name], other[name]));
}
