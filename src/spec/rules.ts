import { type Attribute, attributeOf, ulongOf } from './attribute.js';
import { CKA, CKK, CKO, CKR } from './codes.js';
import { ck, findConstant, mechanismName, namesOf } from './constants.js';

/** Objection of PKCS#11 to a request, found without asking a token: the CKR code and an explanation. */
export interface Violation {
  readonly code: number;
  readonly explanation: string;
}

/** Lowest code of vendors' own attributes and classes (CKA_VENDOR_DEFINED). */
const VENDOR_DEFINED = 0x8000_0000;
/** Code of CKA_PUBLIC_KEY_INFO, which pkcs11js lacks. */
const PUBLIC_KEY_INFO = 0x129;
/** Code of CKA_ALLOWED_MECHANISMS, which pkcs11js lacks. */
const ALLOWED_MECHANISMS = 0x4000_0600;

function types(names: string): readonly number[] {
  return names.split(' ').flatMap((name) => findConstant(`CKA_${name}`) ?? []);
}

// Attributes of each class of objects (PKCS#11 2.40, section 4).
const storageNames = 'CLASS TOKEN PRIVATE MODIFIABLE LABEL COPYABLE DESTROYABLE';
const attributesOfKeys = 'KEY_TYPE ID START_DATE END_DATE DERIVE LOCAL KEY_GEN_MECHANISM ALLOWED_MECHANISMS';
const materialNames =
  'MODULUS MODULUS_BITS PUBLIC_EXPONENT PRIVATE_EXPONENT PRIME_1 PRIME_2 EXPONENT_1 EXPONENT_2 COEFFICIENT PRIME SUBPRIME BASE PRIME_BITS VALUE_BITS EC_PARAMS EC_POINT VALUE';
const secrecyNames = 'SENSITIVE EXTRACTABLE ALWAYS_SENSITIVE NEVER_EXTRACTABLE WRAP_WITH_TRUSTED';
const byClass: ReadonlyMap<number, ReadonlySet<number>> = new Map(
  (
    [
      ['DATA', 'APPLICATION OBJECT_ID VALUE'],
      [
        'CERTIFICATE',
        'CERTIFICATE_TYPE TRUSTED CERTIFICATE_CATEGORY CHECK_VALUE START_DATE END_DATE SUBJECT ID ISSUER SERIAL_NUMBER VALUE URL HASH_OF_SUBJECT_PUBLIC_KEY HASH_OF_ISSUER_PUBLIC_KEY OWNER AC_ISSUER ATTR_TYPES JAVA_MIDP_SECURITY_DOMAIN NAME_HASH_ALGORITHM',
      ],
      ['PUBLIC_KEY', `${attributesOfKeys} ${materialNames} SUBJECT ENCRYPT VERIFY VERIFY_RECOVER WRAP TRUSTED`],
      [
        'PRIVATE_KEY',
        `${attributesOfKeys} ${materialNames} ${secrecyNames} SUBJECT DECRYPT SIGN SIGN_RECOVER UNWRAP ALWAYS_AUTHENTICATE`,
      ],
      [
        'SECRET_KEY',
        `${attributesOfKeys} ${secrecyNames} ENCRYPT DECRYPT SIGN VERIFY WRAP UNWRAP TRUSTED CHECK_VALUE VALUE VALUE_LEN`,
      ],
    ] as const
  ).map(([name, own]) => [ck(`CKO_${name}`), new Set([...types(`${storageNames} ${own}`), PUBLIC_KEY_INFO])]),
);

/** Attributes that only the token sets. */
const readOnly: ReadonlySet<number> = new Set(types('LOCAL KEY_GEN_MECHANISM ALWAYS_SENSITIVE NEVER_EXTRACTABLE'));
/** Attributes that never change (PKCS#11 2.40, section 4.1.1 and the footnotes of its tables). */
const unchangeable: ReadonlySet<number> = new Set(
  types(`CLASS KEY_TYPE CERTIFICATE_TYPE TOKEN PRIVATE MODIFIABLE VALUE_LEN ${materialNames}`),
);
/** Attributes that change in one direction, with the only value that they may be set to. */
const oneWay: ReadonlyMap<number, number> = new Map([
  [CKA.sensitive, 1],
  [CKA.extractable, 0],
]);

const keyTypes = namesOf('CKK_');

function nameOf(type: number): string {
  return attributeOf('template', type).name;
}

/** Returns the value of an attribute in a template; undefined if the template lacks the attribute. */
export function attributeIn(template: readonly Attribute[], type: number): Uint8Array | undefined {
  return template.find((attribute) => attribute.type === type)?.value;
}

function numberIn(template: readonly Attribute[], type: number): number | undefined {
  const value = attributeIn(template, type);
  return value === undefined ? undefined : ulongOf(value);
}

function violation(code: number, explanation: string): Violation {
  return { code, explanation };
}

/** Checks that each value has the size of its attribute. */
function checkValues(template: readonly Attribute[]): Violation | undefined {
  for (const { type, value } of template) {
    const { kind, name } = attributeOf('template', type);
    const isRight =
      kind === 'boolean'
        ? value.length === 1 && (value[0] ?? 2) <= 1
        : kind === 'number'
          ? value.length === 8
          : kind !== 'date' || value.length === 0 || value.length === 8;
    if (!isRight) return violation(CKR.attributeValueInvalid, `attribute ${name} cannot have ${value.length} bytes`);
  }
  return undefined;
}

function checkAttributes(template: readonly Attribute[], objectClass: number): Violation | undefined {
  const own = byClass.get(objectClass);
  for (const { type } of template) {
    if (type >= VENDOR_DEFINED || type === ALLOWED_MECHANISMS) continue;
    if (readOnly.has(type)) return violation(CKR.attributeReadOnly, `only the token sets attribute ${nameOf(type)}`);
    if (own !== undefined && !own.has(type))
      return violation(CKR.attributeTypeInvalid, `objects of this class have no attribute ${nameOf(type)}`);
  }
  return checkValues(template);
}

function missing(template: readonly Attribute[], names: string): Violation | undefined {
  const absent = types(names).find((type) => attributeIn(template, type) === undefined);
  return absent === undefined ? undefined : violation(CKR.templateIncomplete, `attribute ${nameOf(absent)} is missing`);
}

const publicMaterial = new Map<number, string>([
  [CKK.rsa, 'MODULUS PUBLIC_EXPONENT'],
  [CKK.dsa, 'PRIME SUBPRIME BASE VALUE'],
  [CKK.dh, 'PRIME BASE VALUE'],
  [CKK.ec, 'EC_PARAMS EC_POINT'],
  [CKK.ecEdwards, 'EC_PARAMS EC_POINT'],
  [CKK.ecMontgomery, 'EC_PARAMS EC_POINT'],
]);
const privateMaterial = new Map<number, string>([
  [CKK.rsa, 'MODULUS PRIVATE_EXPONENT'],
  [CKK.dsa, 'PRIME SUBPRIME BASE VALUE'],
  [CKK.dh, 'PRIME BASE VALUE'],
  [CKK.ec, 'EC_PARAMS VALUE'],
  [CKK.ecEdwards, 'EC_PARAMS VALUE'],
  [CKK.ecMontgomery, 'EC_PARAMS VALUE'],
]);

/** Checks the template of C_CreateObject (PKCS#11 2.40, section 5.7). */
export function checkCreation(template: readonly Attribute[]): Violation | undefined {
  const incomplete = missing(template, 'CLASS');
  if (incomplete !== undefined) return incomplete;
  const objectClass = numberIn(template, CKA.class) ?? Number.NaN;
  if (!byClass.has(objectClass) && !(objectClass >= VENDOR_DEFINED))
    return violation(CKR.attributeValueInvalid, 'objects of the given class cannot be created');
  const wrong = checkAttributes(template, objectClass);
  if (wrong !== undefined) return wrong;
  if (objectClass === CKO.certificate) {
    const isElsewhere = attributeIn(template, CKA.url) !== undefined;
    return missing(template, isElsewhere ? 'CERTIFICATE_TYPE' : 'CERTIFICATE_TYPE VALUE');
  }
  if (objectClass === CKO.data || objectClass >= VENDOR_DEFINED) return undefined;
  const untyped = missing(template, 'KEY_TYPE');
  if (untyped !== undefined) return untyped;
  const keyType = numberIn(template, CKA.keyType) ?? Number.NaN;
  if (objectClass === CKO.secretKey) return missing(template, 'VALUE');
  const needed = (objectClass === CKO.publicKey ? publicMaterial : privateMaterial).get(keyType);
  return needed === undefined ? undefined : missing(template, needed);
}

/**
 * Result of a generating mechanism: a pair or a single key, its type, and the attributes that the template must have.
 */
interface Generation {
  readonly pair: boolean;
  readonly keyType: number;
  readonly needed: string;
}

const generations: ReadonlyMap<number, Generation> = new Map(
  (
    [
      ['AES_KEY_GEN', 'AES', 'VALUE_LEN'],
      ['GENERIC_SECRET_KEY_GEN', 'GENERIC_SECRET', 'VALUE_LEN'],
      ['DES_KEY_GEN', 'DES', ''],
      ['DES2_KEY_GEN', 'DES2', ''],
      ['DES3_KEY_GEN', 'DES3', ''],
      ['RSA_PKCS_KEY_PAIR_GEN', 'RSA', 'MODULUS_BITS'],
      ['RSA_X9_31_KEY_PAIR_GEN', 'RSA', 'MODULUS_BITS'],
      ['DSA_KEY_PAIR_GEN', 'DSA', 'PRIME SUBPRIME BASE'],
      ['DH_PKCS_KEY_PAIR_GEN', 'DH', 'PRIME BASE'],
      ['EC_KEY_PAIR_GEN', 'EC', 'EC_PARAMS'],
      ['EC_EDWARDS_KEY_PAIR_GEN', 'EC_EDWARDS', 'EC_PARAMS'],
    ] as const
  ).map(([name, type, needed]) => [
    ck(`CKM_${name}`),
    { pair: name.includes('PAIR'), keyType: ck(`CKK_${type}`), needed },
  ]),
);

/**
 * Returns the key type (CKK_*) that a mechanism generates, for a pair that of both keys; undefined if it is not known.
 */
export function generatedType(mechanism: number): number | undefined {
  return generations.get(mechanism)?.keyType;
}

function checkMechanism(mechanism: number, pair: boolean): Violation | undefined {
  const known = generations.get(mechanism);
  const name = mechanismName(mechanism);
  const mayGenerate =
    known === undefined ? /(?<!PARAMETER_)GEN$|_PB[AE]_|PBKD2$|^CKM 0x/u.test(name) : known.pair === pair;
  if (mayGenerate) return undefined;
  return violation(CKR.mechanismInvalid, `${name} does not generate ${pair ? 'key pairs' : 'keys'}`);
}

function checkGenerated(mechanism: number, template: readonly Attribute[], objectClass: number): Violation | undefined {
  const given = numberIn(template, CKA.class);
  if (given !== undefined && given !== objectClass)
    return violation(CKR.templateInconsistent, 'the mechanism generates objects of another class');
  const keyType = numberIn(template, CKA.keyType);
  const generated = generatedType(mechanism);
  if (keyType !== undefined && generated !== undefined && keyType !== generated) {
    const names = `${keyTypes.get(keyType) ?? keyType}, the mechanism generates ${keyTypes.get(generated)}`;
    return violation(CKR.templateInconsistent, `attribute keyType is ${names}`);
  }
  if (objectClass !== CKO.publicKey && attributeIn(template, CKA.value) !== undefined)
    return violation(CKR.templateInconsistent, 'the mechanism generates attribute value; leave it out');
  return checkAttributes(template, objectClass);
}

const aesLengths: ReadonlySet<number> = new Set([16, 24, 32]);

/** Checks mechanism and template of C_GenerateKey (PKCS#11 2.40, section 5.13). */
export function checkGeneration(mechanism: number, template: readonly Attribute[]): Violation | undefined {
  const wrong =
    checkMechanism(mechanism, false) ??
    checkGenerated(mechanism, template, CKO.secretKey) ??
    missing(template, generations.get(mechanism)?.needed ?? '');
  if (wrong !== undefined) return wrong;
  const length = numberIn(template, CKA.valueLen);
  if (mechanism === ck('CKM_AES_KEY_GEN') && !aesLengths.has(length ?? 0))
    return violation(CKR.attributeValueInvalid, 'attribute valueLen: an AES key has 16, 24 or 32 bytes');
  return length === 0
    ? violation(CKR.attributeValueInvalid, 'attribute valueLen: a key cannot have 0 bytes')
    : undefined;
}

/** Checks mechanism and templates of C_GenerateKeyPair (PKCS#11 2.40, section 5.13). */
export function checkPairGeneration(
  mechanism: number,
  publicTemplate: readonly Attribute[],
  privateTemplate: readonly Attribute[],
): Violation | undefined {
  return (
    checkMechanism(mechanism, true) ??
    checkGenerated(mechanism, publicTemplate, CKO.publicKey) ??
    checkGenerated(mechanism, privateTemplate, CKO.privateKey) ??
    missing(publicTemplate, generations.get(mechanism)?.needed ?? '')
  );
}

/**
 * Checks the template of C_UnwrapKey or C_DeriveKey, which must name class and key type (PKCS#11 2.40, section 5.13).
 */
export function checkMade(template: readonly Attribute[], classes: readonly number[]): Violation | undefined {
  const incomplete = missing(template, 'CLASS KEY_TYPE');
  if (incomplete !== undefined) return incomplete;
  const objectClass = numberIn(template, CKA.class) ?? Number.NaN;
  if (!classes.includes(objectClass))
    return violation(CKR.templateInconsistent, 'the call does not make objects of the given class');
  if (attributeIn(template, CKA.value) !== undefined)
    return violation(CKR.templateInconsistent, 'the call sets attribute value; leave it out');
  return checkAttributes(template, objectClass);
}

/** Checks the template of C_CopyObject: attributes that may differ in a copy (PKCS#11 2.40, section 5.7). */
export function checkCopy(template: readonly Attribute[], objectClass: number): Violation | undefined {
  const copied = template.filter(({ type }) => type !== CKA.token && type !== CKA.private && type !== CKA.modifiable);
  return checkChange(copied, objectClass) ?? checkValues(template);
}

/** Checks the template of C_SetAttributeValue: attributes that may change (PKCS#11 2.40, section 5.7). */
export function checkChange(template: readonly Attribute[], objectClass: number): Violation | undefined {
  const wrong = checkAttributes(template, objectClass);
  if (wrong !== undefined) return wrong;
  for (const { type, value } of template) {
    const isFixed = unchangeable.has(type) || (objectClass === CKO.data && type === CKA.value);
    const only = oneWay.get(type);
    if (isFixed || (only !== undefined && value[0] !== only))
      return violation(
        CKR.attributeReadOnly,
        `attribute ${nameOf(type)} cannot be changed ${only === undefined ? '' : 'back'}`.trim(),
      );
  }
  return undefined;
}
