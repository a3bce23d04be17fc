import { type Field, sizeOf } from './parameter-field.js';
import { takesIvOnly } from './parameter-fit.js';

/** Kind of parameter, and how its object in pkcs11js becomes a structure. */
interface KindRow {
  /** Number of the kind (CK_PARAMS_*). */
  readonly kind: number;
  readonly structure: string;
  /** Properties of pkcs11js's object with types; `?` marks an optional property, a number is a length in bytes. */
  readonly properties: string;
  /**
   * Fields of the structure in order: `x` the number x, `#x` the length of x, `*x` a pointer to x, `~x` a pointer to
   * bytes that the token may change, `=x` the bytes of x, `@x` the handle of an object.
   */
  readonly fields: string;
}

const ecdh = 'kdf #sharedData *sharedData #publicData *publicData';
const x942 = 'kdf #otherInfo *otherInfo #publicData *publicData';
const second = 'privateDataLen @privateData #publicData2 *publicData2';
const secondProperties = 'privateDataLen:number privateData:handle publicData2:bytes?';
const gcmFields = '~iv #iv ivBits *aad #aad tagBits';
// pkcs11js documents one of the two names and reads the other.
const ccmProperties = 'dataLength|dataLen:number nonce:bytes? aad:bytes? macLength|macLen:number?';
const ccmFields = 'dataLength *nonce #nonce *aad #aad macLength';

const rows: readonly KindRow[] = [
  {
    kind: 1,
    structure: 'CK_AES_CBC_ENCRYPT_DATA_PARAMS',
    properties: 'iv:16 data:bytes?',
    fields: '=iv *data #data',
  },
  { kind: 2, structure: 'CK_AES_CCM_PARAMS', properties: ccmProperties, fields: ccmFields },
  {
    kind: 3,
    structure: 'CK_AES_GCM_PARAMS',
    properties: 'iv:bytes ivBits:number? aad:bytes? tagBits:number?',
    fields: gcmFields,
  },
  {
    kind: 4,
    structure: 'CK_RSA_PKCS_OAEP_PARAMS',
    properties: 'hashAlg:number mgf:number source:number sourceData:bytes?',
    fields: 'hashAlg mgf source *sourceData #sourceData',
  },
  {
    kind: 5,
    structure: 'CK_RSA_PKCS_PSS_PARAMS',
    properties: 'hashAlg:number mgf:number saltLen:number',
    fields: 'hashAlg mgf saltLen',
  },
  {
    kind: 6,
    structure: 'CK_ECDH1_DERIVE_PARAMS',
    properties: 'kdf:number publicData:bytes sharedData:bytes?',
    fields: ecdh,
  },
  {
    kind: 7,
    structure: 'CK_AES_GCM_240_PARAMS',
    properties: 'iv:bytes ivBits:number aad:bytes? tagBits:number?',
    fields: gcmFields,
  },
  {
    kind: 8,
    structure: 'CK_ECDH2_DERIVE_PARAMS',
    properties: `kdf:number sharedData:bytes? publicData:bytes ${secondProperties}`,
    fields: `${ecdh} ${second}`,
  },
  {
    // The structure ends with a handle that pkcs11js leaves out.
    kind: 9,
    structure: 'CK_ECMQV_DERIVE_PARAMS',
    properties: `kdf:number sharedData:bytes? publicData:bytes ${secondProperties} publicKey:handle?`,
    fields: `${ecdh} ${second} @publicKey`,
  },
  {
    kind: 10,
    structure: 'CK_X9_42_DH1_DERIVE_PARAMS',
    properties: 'kdf:number otherInfo:bytes? publicData:bytes',
    fields: x942,
  },
  {
    kind: 11,
    structure: 'CK_X9_42_DH2_DERIVE_PARAMS',
    properties: `kdf:number otherInfo:bytes? publicData:bytes ${secondProperties}`,
    fields: `${x942} ${second}`,
  },
  {
    kind: 12,
    structure: 'CK_X9_42_MQV_DERIVE_PARAMS',
    properties: `kdf:number otherInfo:bytes? publicData:bytes ${secondProperties} publicKey:handle`,
    fields: `${x942} ${second} @publicKey`,
  },
  {
    kind: 13,
    structure: 'CK_KEA_DERIVE_PARAMS',
    properties: 'isSender:boolean? randomA:bytes randomB:bytes publicData:bytes',
    fields: '=isSender #randomA *randomA *randomB #publicData *publicData',
  },
  {
    kind: 15,
    structure: 'CK_RC2_CBC_PARAMS',
    properties: 'effectiveBits:number iv:8',
    fields: 'effectiveBits =iv',
  },
  {
    kind: 16,
    structure: 'CK_RC2_MAC_GENERAL_PARAMS',
    properties: 'effectiveBits:number macLength:number',
    fields: 'effectiveBits macLength',
  },
  { kind: 17, structure: 'CK_RC5_PARAMS', properties: 'wordSize:number rounds:number', fields: 'wordSize rounds' },
  {
    kind: 18,
    structure: 'CK_RC5_CBC_PARAMS',
    properties: 'wordSize:number rounds:number iv:bytes',
    fields: 'wordSize rounds *iv #iv',
  },
  {
    kind: 19,
    structure: 'CK_RC5_MAC_GENERAL_PARAMS',
    properties: 'wordSize:number rounds:number macLength:number',
    fields: 'wordSize rounds macLength',
  },
  {
    kind: 20,
    structure: 'CK_DES_CBC_ENCRYPT_DATA_PARAMS',
    properties: 'iv:8 data:bytes?',
    fields: '=iv *data #data',
  },
  {
    kind: 21,
    structure: 'CK_SKIPJACK_PRIVATE_WRAP_PARAMS',
    properties: 'password:bytes publicData:bytes primeP:bytes baseG:bytes subprimeQ:bytes randomA:bytes',
    fields:
      '#password *password #publicData *publicData #primeP+baseG #subprimeQ #randomA *randomA *primeP *baseG *subprimeQ',
  },
  {
    kind: 22,
    structure: 'CK_SKIPJACK_RELAYX_PARAMS',
    properties:
      'oldWrappedX:bytes oldPassword:bytes oldPublicData:bytes oldRandomA:bytes newPassword:bytes newPublicData:bytes newRandomA:bytes',
    fields:
      '#oldWrappedX *oldWrappedX #oldPassword *oldPassword #oldPublicData *oldPublicData #oldRandomA *oldRandomA #newPassword *newPassword #newPublicData *newPublicData #newRandomA *newRandomA',
  },
  {
    kind: 23,
    structure: 'CK_PBE_PARAMS',
    properties: 'initVector:8 password:bytes salt:bytes iteration:number',
    fields: '~initVector *password #password *salt #salt iteration',
  },
  { kind: 24, structure: 'CK_KEY_WRAP_SET_OAEP_PARAMS', properties: 'bc:byte? x:bytes?', fields: '=bc *x #x' },
  {
    kind: 25,
    structure: 'CK_GCM_PARAMS',
    properties: 'iv:bytes ivBits:number aad:bytes? tagBits:number?',
    fields: gcmFields,
  },
  { kind: 26, structure: 'CK_CCM_PARAMS', properties: ccmProperties, fields: ccmFields },
  {
    kind: 27,
    structure: 'CK_GOSTR3410_DERIVE_PARAMS',
    properties: 'kdf:number publicData:bytes ukm:bytes?',
    fields: 'kdf *publicData #publicData *ukm #ukm',
  },
  {
    kind: 28,
    structure: 'CK_GOSTR3410_KEY_WRAP_PARAMS',
    properties: 'wrapOID:bytes ukm:bytes? key:handle',
    fields: '*wrapOID #wrapOID *ukm #ukm @key',
  },
];

/** Property of a parameter object. */
interface Property {
  readonly names: readonly string[];
  readonly type: string;
  readonly isOptional: boolean;
}

const byKind = new Map(
  rows.map((row) => [
    row.kind,
    {
      structure: row.structure,
      properties: row.properties.split(' ').map((text): Property => {
        const [, names = '', type = '', optional] = /^([^:]+):(\w+)(\??)$/u.exec(text) ?? [];
        return { names: names.split('|'), type, isOptional: optional === '?' };
      }),
      fields: row.fields.split(' '),
    },
  ]),
);

/** Kind number of CK_PARAMS_AES_CBC. */
const AES_CBC = 1;
const none = new Uint8Array();
const nameOfType: Readonly<Record<string, string>> = { number: 'Number', byte: 'Number', boolean: 'Boolean' };

/** Copies the bytes of a Buffer or any other view: the application may go on to use the view. */
function copyOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice();
}

type Value = number | bigint | Uint8Array;
type Values = ReadonlyMap<string, Value>;

/** Values of optional properties that are left out, by type. */
const missing: Readonly<Record<string, Value>> = {
  number: 0,
  byte: Uint8Array.of(0),
  boolean: Uint8Array.of(0),
  handle: new Uint8Array(8),
};

function readProperty(structure: string, { names, type, isOptional }: Property, object: object): Value {
  const [name = ''] = names;
  const given = names.map((each) => (object as Record<string, unknown>)[each]).find((each) => each !== undefined);
  const wrong = (expected: string): TypeError =>
    new TypeError(`Property '${name}' of ${structure} mechanism parameter should be ${expected}`);
  if (given === undefined || given === null) {
    if (!isOptional) throw wrong(nameOfType[type] ?? 'Buffer');
    return missing[type] ?? none;
  }
  if (type === 'number') {
    if (typeof given !== 'number') throw wrong('Number');
    return sizeOf(given);
  }
  if (type === 'byte') {
    if (typeof given !== 'number' || given >>> 0 > 255) throw wrong('Number');
    return Uint8Array.of(given);
  }
  if (type === 'boolean') {
    if (typeof given !== 'boolean') throw wrong('Boolean');
    return Uint8Array.of(given ? 1 : 0);
  }
  if (!ArrayBuffer.isView(given)) throw wrong('Buffer');
  const bytes = copyOf(given);
  const length = type === 'handle' ? 8 : Number(type);
  if (!Number.isNaN(length) && bytes.length !== length)
    throw wrong(type === 'handle' ? 'Buffer' : `a Buffer of length ${length}`);
  return bytes;
}

/**
 * Returns the fields of a parameter object of pkcs11js, `{ type: CK_PARAMS_*, … }`; undefined for an unknown kind.
 * Throws a TypeError with pkcs11js's own text for a property of the wrong type.
 */
export function fieldsOfKind(type: number, kind: number, parameter: object): readonly Field[] | undefined {
  const row = byKind.get(kind);
  if (row === undefined) return undefined;
  const values: Values = new Map(
    row.properties.map((property) => [property.names[0] ?? '', readProperty(row.structure, property, parameter)]),
  );
  const bytes = (name: string): Uint8Array => values.get(name) as Uint8Array;
  const layout = kind === AES_CBC && takesIvOnly(type) ? row.fields.slice(0, 1) : row.fields;
  return layout.map((field): Field => {
    const name = field.slice(1);
    switch (field[0]) {
      case '#':
        return { kind: 'number', value: name.split('+').reduce((sum, each) => sum + bytes(each).length, 0) };
      case '*':
        return { kind: 'pointed', value: bytes(name) };
      case '=':
        return { kind: 'inlined', value: bytes(name) };
      case '@':
        // A handle of zeros, or a handle that is left out, names no object.
        return bytes(name).every((byte) => byte === 0)
          ? { kind: 'number', value: 0 }
          : { kind: 'object', handle: bytes(name) };
      case '~':
        return { kind: 'returned', value: bytes(name), target: targetOf(parameter, name) };
      default:
        return { kind: 'number', value: numberOf(field, values) };
    }
  });
}

/** Returns the application's own buffer, which takes the bytes that a token writes to the parameter. */
function targetOf(parameter: object, name: string): Uint8Array {
  const view = (parameter as Record<string, ArrayBufferView>)[name] as ArrayBufferView;
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** Returns the value of a number field; if `ivBits` is left out, it is the length of the IV in bits. */
function numberOf(name: string, values: Values): number | bigint {
  const value = values.get(name) as number | bigint;
  const iv = values.get('iv');
  return name === 'ivBits' && value === 0 && iv instanceof Uint8Array ? iv.length * 8 : value;
}
