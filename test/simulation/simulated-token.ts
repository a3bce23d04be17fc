import { createCipheriv, createDecipheriv, createHash, createHmac } from 'node:crypto';
import { type Attribute, ulongBytes, ulongOf } from '../../src/spec/attribute.js';
import type { ReadAttribute } from '../../src/spec/calls.js';
import { CKA, CKO, CKR } from '../../src/spec/codes.js';
import { ck } from '../../src/spec/constants.js';
import type { Chance } from './chance.js';

/** Mechanisms of the token. Others are CKR_MECHANISM_INVALID. */
export const CKM: Readonly<
  Record<'aesGenerate' | 'genericGenerate' | 'rsaPair' | 'oaep' | 'keyWrap' | 'ecb' | 'sha256' | 'hmac', number>
> = {
  aesGenerate: ck('CKM_AES_KEY_GEN'),
  genericGenerate: ck('CKM_GENERIC_SECRET_KEY_GEN'),
  rsaPair: ck('CKM_RSA_PKCS_KEY_PAIR_GEN'),
  oaep: ck('CKM_RSA_PKCS_OAEP'),
  keyWrap: ck('CKM_AES_KEY_WRAP_PAD'),
  ecb: ck('CKM_AES_ECB'),
  sha256: ck('CKM_SHA256'),
  hmac: ck('CKM_SHA256_HMAC'),
};

const CKA_VALUE_LEN = ck('CKA_VALUE_LEN');
const CKA_MODULUS_BITS = ck('CKA_MODULUS_BITS');
const CKK_AES = ck('CKK_AES');
const CKK_GENERIC = ck('CKK_GENERIC_SECRET');
const CKK_RSA = ck('CKK_RSA');
const yes = Buffer.of(1);
const no = Buffer.of(0);

/** Error of a call: a CKR code. */
export class Refused extends Error {
  constructor(readonly code: number) {
    super(`CKR 0x${code.toString(16)}`);
  }
}

function refuse(name: string): never {
  throw new Refused(ck(name));
}

/** Object of a token. `holder`: session that a session object belongs to; undefined for a token object. */
export interface StoredObject {
  readonly id: number;
  readonly attributes: Map<number, Buffer>;
  readonly holder: object | undefined;
}

/** Returns a boolean attribute. */
export function isTrue(object: StoredObject, type: number): boolean {
  return object.attributes.get(type)?.[0] === 1;
}

/**
 * Token in memory: objects with attributes, and symbolic wrapping. A wrapped key names the key that opens it, so that
 * a token without that key cannot unwrap; AES-ECB, HMAC and digests are real.
 */
export class SimulatedToken {
  readonly objects: Map<number, StoredObject> = new Map();
  pin: string = '1234';
  #nextId = 1;

  constructor(readonly serial: string) {}

  /** Returns a token with the same token objects, and without sessions. */
  copy(): SimulatedToken {
    const copy = new SimulatedToken(this.serial);
    copy.pin = this.pin;
    copy.#nextId = this.#nextId;
    for (const [id, { attributes, holder }] of this.objects)
      if (holder === undefined) copy.objects.set(id, { id, attributes: new Map(attributes), holder });
    return copy;
  }

  /** Ends a session: its session objects go. */
  endSession(session: object): void {
    for (const [id, { holder }] of this.objects) if (holder === session) this.objects.delete(id);
  }

  /** Returns the objects that a session sees and that match a template. */
  find(template: readonly Attribute[], session: object, isLoggedIn: boolean): StoredObject[] {
    return [...this.objects.values()].filter(
      (object) =>
        (object.holder === undefined || object.holder === session) &&
        (isLoggedIn || !isTrue(object, CKA.private)) &&
        template.every(({ type, value }) => object.attributes.get(type)?.equals(value) === true),
    );
  }

  read(object: StoredObject, types: readonly number[]): ReadAttribute[] {
    const isSecret = [CKO.secretKey, CKO.privateKey].includes(ulongOf(object.attributes.get(CKA.class) ?? no));
    const isHidden = isSecret && (isTrue(object, CKA.sensitive) || !isTrue(object, CKA.extractable));
    return types.map((type) => {
      const value = object.attributes.get(type);
      if (type === CKA.value && isHidden) return { presence: 'sensitive', value: Buffer.alloc(0) };
      return value === undefined
        ? { presence: 'invalid', value: Buffer.alloc(0) }
        : { presence: 'present', value: Buffer.from(value) };
    });
  }

  /** Adds an object with a template over the defaults; returns it. */
  add(template: readonly Attribute[], own: ReadonlyMap<number, Buffer>, session: object): StoredObject {
    const attributes = new Map<number, Buffer>([
      [CKA.token, no],
      [CKA.private, yes],
      [CKA.label, Buffer.alloc(0)],
      ...own,
      ...template.map(({ type, value }) => [type, Buffer.from(value)] as const),
    ]);
    if (!attributes.has(CKA.class)) refuse('CKR_TEMPLATE_INCOMPLETE');
    if (ulongOf(attributes.get(CKA.class) ?? no) !== CKO.data)
      for (const type of [CKA.id]) if (!attributes.has(type)) attributes.set(type, Buffer.alloc(0));
    const id = this.#nextId;
    this.#nextId += 1;
    const isToken = attributes.get(CKA.token)?.[0] === 1;
    const object = { id, attributes, holder: isToken ? undefined : session };
    this.objects.set(id, object);
    return object;
  }

  destroy({ id, attributes }: StoredObject): void {
    if (attributes.get(ck('CKA_DESTROYABLE'))?.[0] === 0) refuse('CKR_ACTION_PROHIBITED');
    if (!this.objects.delete(id)) refuse('CKR_OBJECT_HANDLE_INVALID');
  }

  generate(mechanism: number, template: readonly Attribute[], session: object, chance: Chance): StoredObject {
    const type = new Map([
      [CKM.aesGenerate, CKK_AES],
      [CKM.genericGenerate, CKK_GENERIC],
    ]).get(mechanism);
    if (type === undefined) refuse('CKR_MECHANISM_INVALID');
    const size = ulongOf(template.find((each) => each.type === CKA_VALUE_LEN)?.value ?? ulongBytes(0));
    if (size === 0) refuse('CKR_TEMPLATE_INCOMPLETE');
    const own = new Map([
      [CKA.class, Buffer.from(ulongBytes(CKO.secretKey))],
      [CKA.keyType, Buffer.from(ulongBytes(type ?? 0))],
      [CKA.value, chance.bytes(size)],
    ]);
    return this.add(template, own, session);
  }

  /** Makes an RSA pair: a number stands for both halves, so that what one wraps the other opens. */
  generatePair(
    mechanism: number,
    publicTemplate: readonly Attribute[],
    privateTemplate: readonly Attribute[],
    session: object,
    chance: Chance,
  ): { publicKey: StoredObject; privateKey: StoredObject } {
    if (mechanism !== CKM.rsaPair) refuse('CKR_MECHANISM_INVALID');
    const bits = ulongOf(publicTemplate.find(({ type }) => type === CKA_MODULUS_BITS)?.value ?? ulongBytes(2048));
    const modulus = chance.bytes(bits / 8);
    modulus[0] = 0xc0 | (modulus[0] ?? 0);
    const common: (readonly [number, Buffer])[] = [
      [CKA.keyType, Buffer.from(ulongBytes(CKK_RSA))],
      [CKA.modulus, modulus],
      [CKA.publicExponent, Buffer.of(1, 0, 1)],
    ];
    const classOf = (value: number) => [CKA.class, Buffer.from(ulongBytes(value))] as const;
    return {
      publicKey: this.add(publicTemplate, new Map([classOf(CKO.publicKey), ...common]), session),
      privateKey: this.add(
        privateTemplate,
        new Map([classOf(CKO.privateKey), ...common, [CKA.value, modulus]]),
        session,
      ),
    };
  }
}

/** Returns the bytes that name the key which opens what `key` wraps. */
function lockOf(mechanism: number, key: StoredObject): Buffer {
  const secret = mechanism === CKM.oaep ? key.attributes.get(CKA.modulus) : key.attributes.get(CKA.value);
  if (secret === undefined) refuse('CKR_KEY_TYPE_INCONSISTENT');
  return createHash('sha256')
    .update(secret ?? no)
    .digest()
    .subarray(0, 16);
}

const isWrapping = (mechanism: number): boolean => mechanism === CKM.oaep || mechanism === CKM.keyWrap;

/** Wraps a secret key. */
export function wrap(mechanism: number, wrapping: StoredObject, key: StoredObject): Buffer {
  if (!isWrapping(mechanism)) refuse('CKR_MECHANISM_INVALID');
  if (!isTrue(key, CKA.extractable)) refuse('CKR_KEY_UNEXTRACTABLE');
  const value = key.attributes.get(CKA.value);
  if (value === undefined || ulongOf(key.attributes.get(CKA.class) ?? no) !== CKO.secretKey)
    refuse('CKR_KEY_NOT_WRAPPABLE');
  return Buffer.concat([lockOf(mechanism, wrapping), value ?? no]);
}

/** Opens a wrapped key; returns its value. */
export function unwrap(mechanism: number, unwrapping: StoredObject, wrapped: Uint8Array): Buffer {
  if (!isWrapping(mechanism)) refuse('CKR_MECHANISM_INVALID');
  const bytes = Buffer.from(wrapped);
  if (!bytes.subarray(0, 16).equals(lockOf(mechanism, unwrapping))) refuse('CKR_WRAPPED_KEY_INVALID');
  return Buffer.from(bytes.subarray(16));
}

/** Operation that a session has begun. */
export interface BegunOperation {
  readonly mechanism: number;
  readonly key: Buffer;
  data: Buffer;
}

/** Begins an operation with a key; a digest has none. */
export function begin(mechanism: number, expected: readonly number[], key?: StoredObject): BegunOperation {
  if (!expected.includes(mechanism)) refuse('CKR_MECHANISM_INVALID');
  const value = key?.attributes.get(CKA.value);
  if (key !== undefined && value === undefined) throw new Refused(CKR.keyHandleInvalid ?? ck('CKR_KEY_HANDLE_INVALID'));
  return { mechanism, key: value ?? Buffer.alloc(0), data: Buffer.alloc(0) };
}

/** Completes an operation with its last data. */
export function complete({ mechanism, key, data }: BegunOperation, more: Uint8Array, decrypts = false): Buffer {
  const all = Buffer.concat([data, more]);
  if (mechanism === CKM.sha256) return createHash('sha256').update(all).digest();
  if (mechanism === CKM.hmac) return createHmac('sha256', key).update(all).digest();
  if (all.length % 16 !== 0) refuse('CKR_DATA_LEN_RANGE');
  const cipher = (decrypts ? createDecipheriv : createCipheriv)(`aes-${key.length * 8}-ecb`, key, null);
  cipher.setAutoPadding(false);
  return Buffer.concat([cipher.update(all), cipher.final()]);
}
