import { ck, mechanismName } from './constants.js';
import { bytesIn, InputError, integerOf } from './input.js';
import type { Field } from './parameter-field.js';
import { fitsKind, hasPointers } from './parameter-fit.js';
import { fieldsOfKind } from './parameter-kind.js';
import { ParameterObject } from './parameter-object.js';

const number = (value: number): Field => ({ kind: 'number', value });
const inlined = (value: Uint8Array): Field => ({ kind: 'inlined', value });
const pointed = (value: Uint8Array): Field => ({ kind: 'pointed', value });

/** Builder of a parameter's fields. A field that security depends on has no default. */
type Layout = (params: ParameterObject) => readonly Field[];

const hashNames = ['hash', 'hashAlg', 'hashAlgorithm'];
const maskOfHash = new Map([
  [ck('CKM_SHA_1'), ck('CKG_MGF1_SHA1')],
  [ck('CKM_SHA224'), ck('CKG_MGF1_SHA224')],
  [ck('CKM_SHA256'), ck('CKG_MGF1_SHA256')],
  [ck('CKM_SHA384'), ck('CKG_MGF1_SHA384')],
  [ck('CKM_SHA512'), ck('CKG_MGF1_SHA512')],
]);

/** Least length of a tag (bits), as NIST SP 800-38D, section 5.2.1.2, has it. */
const LEAST_TAG = 32;
/** Length of a full tag (bits). */
const FULL_TAG = 128;

/** CK_GCM_PARAMS (PKCS#11 2.40 mechanisms, section 2.13). Some tokens pick the IV and write it back. */
const gcm: Layout = (params) => {
  const iv = params.bytes(['iv'], 1);
  const aad = params.bytes(['aad', 'additionalData']);
  return [
    { kind: 'returned', value: iv },
    number(iv.length),
    number(params.integer(['ivBits'], iv.length * 8)),
    pointed(aad),
    number(aad.length),
    number(params.integer(['tagBits', 'tagLength'], undefined, LEAST_TAG, FULL_TAG)),
  ];
};

/** CK_CCM_PARAMS, section 2.13. */
const ccm: Layout = (params) => {
  const length = params.integer(['dataLen']);
  const nonce = params.bytes(['nonce'], 7, 13);
  const aad = params.bytes(['aad', 'additionalData']);
  return [
    number(length),
    pointed(nonce),
    number(nonce.length),
    pointed(aad),
    number(aad.length),
    number(params.integer(['macLen'], undefined, LEAST_TAG / 8, FULL_TAG / 8)),
  ];
};

/** CK_AES_CTR_PARAMS, section 2.11. */
const ctr: Layout = (params) => {
  const block = params.bytes(['counter', 'cb'], 16, 16);
  return [number(params.integer(['bits', 'counterBits'], 128, 1, 128)), inlined(block)];
};

/** CK_RSA_PKCS_OAEP_PARAMS, section 2.1. The mask's hash is the hash unless `mgf` says otherwise. */
const oaep: Layout = (params) => {
  const hash = params.constant(hashNames, 'CKM_');
  const mask = params.constant(['mgf'], 'CKG_', maskOfHash.get(hash));
  const source = params.integer(['source'], 1);
  const label = params.bytes(['sourceData', 'label']);
  return [number(hash), number(mask), number(source), pointed(label), number(label.length)];
};

/** CK_RSA_PKCS_PSS_PARAMS, section 2.1. The mask's hash is the hash unless `mgf` says otherwise. */
const pss: Layout = (params) => {
  const hash = params.constant(hashNames, 'CKM_');
  const mask = params.constant(['mgf'], 'CKG_', maskOfHash.get(hash));
  return [number(hash), number(mask), number(params.integer(['saltLen', 'saltLength']))];
};

/** CK_ECDH1_DERIVE_PARAMS, section 2.3. */
const ecdh: Layout = (params) => {
  const derivation = params.constant(['kdf'], 'CKD_');
  const shared = params.bytes(['sharedData']);
  const publicData = params.bytes(['publicData', 'public'], 1);
  return [number(derivation), number(shared.length), pointed(shared), number(publicData.length), pointed(publicData)];
};

/** CK_EDDSA_PARAMS (PKCS#11 3.0 mechanisms, section 2.3), for Ed25519ctx, Ed25519ph and Ed448. */
const eddsa: Layout = (params) => {
  const context = params.bytes(['context', 'contextData']);
  const prehash = params.flag(['prehash', 'phFlag']);
  return [{ kind: 'flag', value: prehash }, number(context.length), pointed(context)];
};

/** IV, alone or, for CKM_AES_CBC_ENCRYPT_DATA, before the data. */
const cbc: Layout = (params) => {
  const iv = params.bytes(['iv'], 8, 16);
  if (!params.has('data')) return [inlined(iv)];
  const data = params.bytes(['data']);
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

/** Mechanisms that a library may take without their IV, counter or nonce, and then use zeros or what was there. */
const needsParameter: ReadonlySet<number> = new Set(['CKM_AES_GCM', 'CKM_AES_CCM', 'CKM_AES_CTR'].map(ck));

/**
 * Returns the fields of a mechanism's parameter from graphene's, pkcs11js's or this package's form; InputError
 * otherwise.
 */
export function fieldsOf(field: string, type: number, parameter: unknown): readonly Field[] {
  if (parameter === undefined || parameter === null) {
    if (needsParameter.has(type)) throw new InputError(field, `the parameter of ${mechanismName(type)}`, parameter);
    return [];
  }
  if (typeof parameter === 'number') return [number(integerOf(field, parameter, 0, Number.MAX_SAFE_INTEGER))];
  const layout = layoutByMechanism.get(type);
  const raw = bytesIn(parameter);
  if (raw !== undefined) {
    if (hasPointers(type))
      throw new InputError(field, `the parameter of ${mechanismName(type)} as an object`, parameter);
    return [inlined(raw)];
  }
  if (typeof parameter !== 'object') throw new InputError(field, 'a Buffer, a number or an object', parameter);
  const { toCKI } = parameter as { toCKI?: unknown };
  if (typeof toCKI === 'function') return fieldsOf(field, type, toCKI.call(parameter));
  const { type: kind } = parameter as { type?: unknown };
  if (typeof kind === 'number') return fieldsOfGiven(field, type, kind, parameter);
  if (layout === undefined)
    throw new InputError(field, `a Buffer, or a kind of parameter that ${mechanismName(type)} takes`, parameter);
  const params = new ParameterObject(field, parameter as Readonly<Record<string, unknown>>);
  const fields = layout(params);
  params.checkAll();
  return fields;
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
