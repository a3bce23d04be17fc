import { ck, findConstant, mechanismName } from './constants.js';
import { bytesOf, InputError, integerOf } from './input.js';
import type { Field } from './parameter-field.js';
import { fitsKind, hasPointers } from './parameter-fit.js';
import { fieldsOfKind } from './parameter-kind.js';

const none = new Uint8Array();
const number = (value: number): Field => ({ kind: 'number', value });
const inlined = (value: Uint8Array): Field => ({ kind: 'inlined', value });
const pointed = (value: Uint8Array): Field => ({ kind: 'pointed', value });

type Parameters = Readonly<Record<string, unknown>>;
/** Builder of a parameter's fields; `field` is the parameter's name in errors. */
type Layout = (field: string, params: Parameters) => readonly Field[];

function bytes(field: string, params: Parameters, ...names: string[]): Uint8Array {
  for (const name of names) {
    if (params[name] !== undefined && params[name] !== null) return bytesOf(`${field}.${name}`, params[name]);
  }
  return none;
}

function integer(field: string, params: Parameters, names: readonly string[], otherwise?: number): number {
  for (const name of names) {
    if (params[name] !== undefined) return integerOf(`${field}.${name}`, params[name], 0, 0xffff_ffff);
  }
  if (otherwise === undefined) throw new InputError(`${field}.${names[0]}`, 'an integer', undefined);
  return otherwise;
}

function constant(
  field: string,
  params: Parameters,
  names: readonly string[],
  prefix: string,
  otherwise?: number,
): number {
  for (const name of names) {
    const value = params[name];
    if (value === undefined) continue;
    const known = typeof value === 'string' ? findConstant(prefix + value.replaceAll('-', '')) : undefined;
    if (known !== undefined) return known;
    if (typeof value === 'number') return integerOf(`${field}.${name}`, value, 0, 0xffff_ffff);
    throw new InputError(`${field}.${name}`, `a number or a name after ${prefix}`, value);
  }
  if (otherwise === undefined)
    throw new InputError(`${field}.${names[0]}`, `a number or a name after ${prefix}`, undefined);
  return otherwise;
}

const hashNames = ['hash', 'hashAlg', 'hashAlgorithm'];
const hashLengths = new Map([
  [ck('CKM_SHA_1'), 20],
  [ck('CKM_SHA224'), 28],
  [ck('CKM_SHA256'), 32],
  [ck('CKM_SHA384'), 48],
  [ck('CKM_SHA512'), 64],
]);
const maskOfHash = new Map([
  [ck('CKM_SHA_1'), ck('CKG_MGF1_SHA1')],
  [ck('CKM_SHA224'), ck('CKG_MGF1_SHA224')],
  [ck('CKM_SHA256'), ck('CKG_MGF1_SHA256')],
  [ck('CKM_SHA384'), ck('CKG_MGF1_SHA384')],
  [ck('CKM_SHA512'), ck('CKG_MGF1_SHA512')],
]);

/** CK_GCM_PARAMS (PKCS#11 2.40 mechanisms, section 2.13). Some tokens pick the IV and write it back. */
const gcm: Layout = (field, params) => {
  const iv = bytes(field, params, 'iv');
  const aad = bytes(field, params, 'aad', 'additionalData');
  return [
    { kind: 'returned', value: iv },
    number(iv.length),
    number(integer(field, params, ['ivBits'], iv.length * 8)),
    pointed(aad),
    number(aad.length),
    number(integer(field, params, ['tagBits', 'tagLength'], 128)),
  ];
};

/** CK_CCM_PARAMS, section 2.13. */
const ccm: Layout = (field, params) => {
  const nonce = bytes(field, params, 'nonce');
  const aad = bytes(field, params, 'aad');
  return [
    number(integer(field, params, ['dataLen'])),
    pointed(nonce),
    number(nonce.length),
    pointed(aad),
    number(aad.length),
    number(integer(field, params, ['macLen'])),
  ];
};

/** CK_AES_CTR_PARAMS, section 2.11. */
const ctr: Layout = (field, params) => {
  const block = bytes(field, params, 'counter', 'cb', 'iv');
  if (block.length !== 16)
    throw new InputError(`${field}.counter`, 'a Buffer of 16 bytes', params.counter ?? params.cb ?? params.iv);
  return [number(integer(field, params, ['bits', 'counterBits'], 128)), inlined(block)];
};

/** CK_RSA_PKCS_OAEP_PARAMS, section 2.1. */
const oaep: Layout = (field, params) => {
  const hash = constant(field, params, hashNames, 'CKM_', ck('CKM_SHA_1'));
  const label = bytes(field, params, 'sourceData', 'label');
  return [
    number(hash),
    number(constant(field, params, ['mgf'], 'CKG_', maskOfHash.get(hash))),
    number(integer(field, params, ['source'], 1)),
    pointed(label),
    number(label.length),
  ];
};

/** CK_RSA_PKCS_PSS_PARAMS, section 2.1. */
const pss: Layout = (field, params) => {
  const hash = constant(field, params, hashNames, 'CKM_');
  return [
    number(hash),
    number(constant(field, params, ['mgf'], 'CKG_', maskOfHash.get(hash))),
    number(integer(field, params, ['saltLen', 'saltLength'], hashLengths.get(hash))),
  ];
};

/** CK_ECDH1_DERIVE_PARAMS, section 2.3. */
const ecdh: Layout = (field, params) => {
  const shared = bytes(field, params, 'sharedData');
  const publicData = bytes(field, params, 'publicData', 'public');
  return [
    number(integer(field, params, ['kdf'], 1)),
    number(shared.length),
    pointed(shared),
    number(publicData.length),
    pointed(publicData),
  ];
};

/** CK_EDDSA_PARAMS (PKCS#11 3.0 mechanisms, section 2.3), for Ed25519ctx, Ed25519ph and Ed448. */
const eddsa: Layout = (field, params) => {
  const context = bytes(field, params, 'context', 'contextData');
  const prehash = params.prehash ?? params.phFlag ?? false;
  if (typeof prehash !== 'boolean') throw new InputError(`${field}.prehash`, 'true or false', prehash);
  return [{ kind: 'flag', value: prehash }, number(context.length), pointed(context)];
};

/** IV, alone or, for CKM_AES_CBC_ENCRYPT_DATA, before the data. */
const cbc: Layout = (field, params) => {
  const iv = bytes(field, params, 'iv');
  if (iv.length > 16) throw new InputError(`${field}.iv`, 'a Buffer of at most 16 bytes', iv);
  if (params.data === undefined) return [inlined(iv)];
  const data = bytes(field, params, 'data');
  return [inlined(iv), pointed(data), number(data.length)];
};

const layoutByMechanism = new Map<number, Layout>([
  [ck('CKM_AES_GCM'), gcm],
  [ck('CKM_AES_CCM'), ccm],
  [ck('CKM_AES_CTR'), ctr],
  [ck('CKM_AES_CBC'), cbc],
  [ck('CKM_AES_CBC_PAD'), cbc],
  [ck('CKM_DES3_CBC'), cbc],
  [ck('CKM_DES3_CBC_PAD'), cbc],
  [ck('CKM_RSA_PKCS_OAEP'), oaep],
  [ck('CKM_ECDH1_DERIVE'), ecdh],
  [ck('CKM_EDDSA'), eddsa],
  [ck('CKM_AES_CBC_ENCRYPT_DATA'), cbc],
  ...['', 'SHA1_', 'SHA224_', 'SHA256_', 'SHA384_', 'SHA512_'].map(
    (hash) => [ck(`CKM_${hash}RSA_PKCS_PSS`), pss] as const,
  ),
]);

/**
 * Returns the fields of a mechanism's parameter from graphene's, pkcs11js's or this package's form; InputError
 * otherwise.
 */
export function fieldsOf(field: string, type: number, parameter: unknown): readonly Field[] {
  if (parameter === undefined || parameter === null) return [];
  if (typeof parameter === 'number') return [number(integerOf(field, parameter, 0, Number.MAX_SAFE_INTEGER))];
  const layout = layoutByMechanism.get(type);
  if (parameter instanceof Uint8Array) {
    if (hasPointers(type)) {
      throw new InputError(field, `the parameter of ${mechanismName(type)} as an object`, parameter);
    }
    return [inlined(parameter)];
  }
  if (typeof parameter !== 'object') throw new InputError(field, 'a Buffer, a number or an object', parameter);
  const { toCKI } = parameter as { toCKI?: unknown };
  if (typeof toCKI === 'function') return fieldsOf(field, type, toCKI.call(parameter));
  const { type: kind } = parameter as { type?: unknown };
  if (typeof kind === 'number') return fieldsOfGiven(field, type, kind, parameter);
  if (layout === undefined)
    throw new InputError(field, `a Buffer, or a kind of parameter that ${mechanismName(type)} takes`, parameter);
  return layout(field, parameter as Parameters);
}

/** Returns the fields of a parameter in pkcs11js's form, which names the kind. */
function fieldsOfGiven(field: string, type: number, kind: number, parameter: object): readonly Field[] {
  const expected = `a Buffer, or a kind of parameter that ${mechanismName(type)} takes`;
  if (!fitsKind(type, kind)) throw new InputError(field, expected, parameter);
  let fields: readonly Field[] | undefined;
  try {
    fields = fieldsOfKind(type, kind, parameter);
  } catch (error) {
    throw new InputError(field, `${expected} (${(error as Error).message})`, parameter);
  }
  if (fields === undefined) throw new InputError(field, expected, parameter);
  return fields;
}
