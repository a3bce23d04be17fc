import { type Attribute, ulongBytes, ulongOf } from '../../spec/attribute.js';
import type { ObjectRef } from '../../spec/calls.js';
import { CKA, CKO, CKR } from '../../spec/codes.js';
import { type Step, step } from '../../spec/job.js';
import { bindObjects, type Mechanism } from '../../spec/mechanism.js';
import {
  attributeIn,
  checkCopy,
  checkCreation,
  checkGeneration,
  checkMade,
  checkPairGeneration,
  generatedType,
  type Violation,
} from '../../spec/rules.js';
import { TokenError } from '../base/error.js';
import { isReserved } from '../objects/identity.js';
import type { VirtualObject } from '../objects/object.js';
import { withAttribute } from './job-builder.js';

/** One object that a call makes. */
export interface ObjectRequest {
  readonly class: number;
  /** CKA_KEY_TYPE or CKA_CERTIFICATE_TYPE; NaN for data objects, or where only the token knows. */
  readonly type: number;
  /** What the application asked for, without CKA_TOKEN, with its class and type. */
  readonly asked: readonly Attribute[];
  /** Whether it is to be a token object. */
  readonly token: boolean;
}

/** A call that makes objects, apart from where and how often it is run. */
export interface CreationRequest {
  readonly function: string;
  readonly mechanism: number | undefined;
  /** The objects it is made with. */
  readonly uses: readonly VirtualObject[];
  /** One, or the public and the private key of a pair. */
  readonly requests: readonly ObjectRequest[];
  /** Whether every member makes the same of it; otherwise one makes it and the others get copies. */
  readonly isRepeatable: boolean;
  /** A copy's template says only what is other, and it is a token object at once. */
  readonly isCopy: boolean;
  /** The step that makes the parts, with the real handles of `uses` and a template a part. */
  readonly step: (handles: readonly Uint8Array[], templates: readonly (readonly Attribute[])[]) => Step;
}

/** Whether it is a key that must not be seen: one that has a fingerprint and travels wrapped. */
export function isSecretRequest({ class: objectClass }: { readonly class: number }): boolean {
  return objectClass === CKO.secretKey || objectClass === CKO.privateKey;
}

/** Whether an object is for those only who have logged in; what a template leaves open, the object's class decides. */
export function isPrivateRequest(part: ObjectRequest): boolean {
  return isTrueIn(part.asked, CKA.private) ?? (isSecretRequest(part) || part.class === CKO.data);
}

/** The part of a pair, in a job whose step `index` made it. */
export function refOf(creation: CreationRequest, part: number, index: number): ObjectRef {
  return creation.requests.length === 2 && part === 1 ? { step: index, second: true } : { step: index };
}

export function isTrueIn(template: readonly Attribute[], type: number): boolean | undefined {
  const value = attributeIn(template, type);
  return value === undefined ? undefined : value[0] === 1;
}

/** The length of a secret's value as far as the request tells it. */
export function lengthIn(template: readonly Attribute[]): number | undefined {
  const length = attributeIn(template, CKA.valueLen);
  return length === undefined ? attributeIn(template, CKA.value)?.length : ulongOf(length);
}

function violationError(functionName: string, violation: Violation | undefined): void {
  if (violation !== undefined) throw new TokenError(violation.code, functionName, violation.explanation);
}

function objectRequestOf(
  functionName: string,
  template: readonly Attribute[],
  objectClass: number,
  type: number | undefined,
  tokenByDefault = false,
): ObjectRequest {
  const label = attributeIn(template, CKA.label);
  if (label !== undefined && isReserved(label)) {
    const explanation = "attribute label: labels that begin with 'pkcs11-ha:' are the group's own";
    throw new TokenError(CKR.attributeValueInvalid, functionName, explanation);
  }
  let asked = template.filter((attribute) => attribute.type !== CKA.token);
  asked = [...withAttribute(asked, { type: CKA.class, value: ulongBytes(objectClass) })];
  const typeOfType = objectClass === CKO.certificate ? CKA.certificateType : CKA.keyType;
  const given = attributeIn(template, typeOfType);
  if (given === undefined && type !== undefined && !Number.isNaN(type)) {
    asked.push({ type: typeOfType, value: ulongBytes(type) });
  }
  // Said, because tokens differ in what they take for granted: a key that may not be taken out.
  if (isSecretRequest({ class: objectClass }) && functionName !== 'C_CopyObject') {
    for (const [attribute, otherwise] of [
      [CKA.extractable, 0],
      [CKA.private, 1],
    ] as const) {
      if (attributeIn(asked, attribute) === undefined) asked.push({ type: attribute, value: Uint8Array.of(otherwise) });
    }
  }
  return {
    class: objectClass,
    type: type ?? (given === undefined ? Number.NaN : ulongOf(given)),
    asked,
    token: isTrueIn(template, CKA.token) ?? tokenByDefault,
  };
}

function classIn(template: readonly Attribute[]): number {
  return ulongOf(attributeIn(template, CKA.class) ?? new Uint8Array());
}

/** C_CreateObject. */
export function requestCreate(template: readonly Attribute[]): CreationRequest {
  const name = 'C_CreateObject';
  violationError(name, checkCreation(template));
  return {
    function: name,
    mechanism: undefined,
    uses: [],
    requests: [objectRequestOf(name, template, classIn(template), undefined)],
    isRepeatable: true,
    isCopy: false,
    step: (_handles, [own = []]) => step('C_CreateObject', own),
  };
}

/** C_CopyObject. */
export function requestCopy(source: VirtualObject, template: readonly Attribute[]): CreationRequest {
  const name = 'C_CopyObject';
  const { description } = source;
  violationError(name, checkCopy(template, description.class));
  const part = objectRequestOf(name, template, description.class, description.type, description.token);
  const described: readonly Attribute[] = [
    { type: CKA.label, value: description.label },
    ...(description.class === CKO.data ? [] : [{ type: CKA.id, value: description.id }]),
  ];
  // Class and type only say what it is: a copy's template may not hold them.
  const asked = [...described.filter(({ type }) => attributeIn(template, type) === undefined), ...part.asked];
  const fixed: readonly number[] = [CKA.class, CKA.keyType, CKA.certificateType];
  return {
    function: name,
    mechanism: undefined,
    uses: [source],
    requests: [{ ...part, asked }],
    isRepeatable: true,
    isCopy: true,
    step: ([handle = new Uint8Array(8)], [own = []]) =>
      step(
        'C_CopyObject',
        handle,
        own.filter(({ type }) => !fixed.includes(type)),
      ),
  };
}

/** C_UnwrapKey. */
export function requestUnwrap(
  mechanism: Mechanism,
  key: VirtualObject,
  wrapped: Uint8Array,
  template: readonly Attribute[],
  named: readonly VirtualObject[] = [],
): CreationRequest {
  const name = 'C_UnwrapKey';
  violationError(name, checkMade(template, [CKO.secretKey, CKO.privateKey]));
  return {
    function: name,
    mechanism: mechanism.type,
    uses: [key, ...named],
    requests: [objectRequestOf(name, template, classIn(template), undefined)],
    isRepeatable: true,
    isCopy: false,
    step: ([handle = new Uint8Array(8), ...others], [own = []]) =>
      step('C_UnwrapKey', bindObjects(mechanism, others), handle, wrapped, own),
  };
}

/** C_DeriveKey. */
export function requestDerive(
  mechanism: Mechanism,
  key: VirtualObject,
  template: readonly Attribute[],
  /** The objects that the mechanism's parameter names. */
  named: readonly VirtualObject[] = [],
): CreationRequest {
  const name = 'C_DeriveKey';
  violationError(name, checkMade(template, [CKO.secretKey]));
  return {
    function: name,
    mechanism: mechanism.type,
    uses: [key, ...named],
    requests: [objectRequestOf(name, template, classIn(template), undefined)],
    isRepeatable: true,
    isCopy: false,
    step: ([handle = new Uint8Array(8), ...others], [own = []]) =>
      step('C_DeriveKey', bindObjects(mechanism, others), handle, own),
  };
}

/** C_GenerateKey. */
export function requestGenerate(mechanism: Mechanism, template: readonly Attribute[]): CreationRequest {
  const name = 'C_GenerateKey';
  violationError(name, checkGeneration(mechanism.type, template));
  return {
    function: name,
    mechanism: mechanism.type,
    uses: [],
    requests: [objectRequestOf(name, template, CKO.secretKey, generatedType(mechanism.type))],
    isRepeatable: false,
    isCopy: false,
    step: (_handles, [own = []]) => step('C_GenerateKey', mechanism, own),
  };
}

/** C_GenerateKeyPair. */
export function requestGeneratePair(
  mechanism: Mechanism,
  publicTemplate: readonly Attribute[],
  privateTemplate: readonly Attribute[],
): CreationRequest {
  const name = 'C_GenerateKeyPair';
  violationError(name, checkPairGeneration(mechanism.type, publicTemplate, privateTemplate));
  const type = generatedType(mechanism.type);
  return {
    function: name,
    mechanism: mechanism.type,
    uses: [],
    requests: [
      objectRequestOf(name, publicTemplate, CKO.publicKey, type),
      objectRequestOf(name, privateTemplate, CKO.privateKey, type),
    ],
    isRepeatable: false,
    isCopy: false,
    step: (_handles, [ofPublic = [], ofPrivate = []]) => step('C_GenerateKeyPair', mechanism, ofPublic, ofPrivate),
  };
}
