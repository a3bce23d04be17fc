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

/** Object that a call makes, as the call asks for it. */
export interface ObjectRequest {
  readonly class: number;
  /** CKA_KEY_TYPE or CKA_CERTIFICATE_TYPE; NaN for data objects, or if only the token knows it. */
  readonly type: number;
  /** Template of the application without CKA_TOKEN, completed with class and type. */
  readonly asked: readonly Attribute[];
  /** True if the object is to be a token object. */
  readonly token: boolean;
}

/** Call that makes objects, apart from the members that run it. */
export interface CreationRequest {
  readonly function: string;
  readonly mechanism: number | undefined;
  /** Objects that the call needs: the source of a copy, the unwrapping or base key, keys of the mechanism. */
  readonly uses: readonly VirtualObject[];
  /** The object to be made; for a pair the public key, then the private key. */
  readonly requests: readonly ObjectRequest[];
  /** True if every member can make the same object itself; if not, one makes it and the others get copies. */
  readonly isRepeatable: boolean;
  /** True for C_CopyObject: its template holds only what differs, and it makes a token object directly. */
  readonly isCopy: boolean;
  /** Returns the step that makes the objects, given the real handles of `uses` and one template for each request. */
  readonly step: (handles: readonly Uint8Array[], templates: readonly (readonly Attribute[])[]) => Step;
}

/** Returns true for secret and private keys: they have a fingerprint and travel wrapped. */
export function isSecretRequest({ class: objectClass }: { readonly class: number }): boolean {
  return objectClass === CKO.secretKey || objectClass === CKO.privateKey;
}

/** Returns the CKA_PRIVATE that the object will have; if the template does not set it, the class decides. */
export function isPrivateRequest(request: ObjectRequest): boolean {
  return isTrueIn(request.asked, CKA.private) ?? (isSecretRequest(request) || request.class === CKO.data);
}

/** Returns the reference to the object of request number `request`, in a job whose step `index` makes the objects. */
export function refOf(creation: CreationRequest, request: number, index: number): ObjectRef {
  return creation.requests.length === 2 && request === 1 ? { step: index, second: true } : { step: index };
}

/** Returns the value of a boolean attribute; undefined if the template does not hold it. */
export function isTrueIn(template: readonly Attribute[], type: number): boolean | undefined {
  const value = attributeIn(template, type);
  return value === undefined ? undefined : value[0] === 1;
}

/** Returns the length of a secret's value (bytes), from CKA_VALUE_LEN or CKA_VALUE; undefined if neither is given. */
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
    const explanation = "attribute label: labels that begin with 'pkcs11-ha:' are reserved for the group";
    throw new TokenError(CKR.attributeValueInvalid, functionName, explanation);
  }
  let asked = template.filter((attribute) => attribute.type !== CKA.token);
  asked = [...withAttribute(asked, { type: CKA.class, value: ulongBytes(objectClass) })];
  const typeAttribute = objectClass === CKO.certificate ? CKA.certificateType : CKA.keyType;
  const given = attributeIn(template, typeAttribute);
  if (given === undefined && type !== undefined && !Number.isNaN(type)) {
    asked.push({ type: typeAttribute, value: ulongBytes(type) });
  }
  // Tokens have different defaults, so the template states them: private, and not extractable.
  if (isSecretRequest({ class: objectClass }) && functionName !== 'C_CopyObject') {
    for (const [attribute, byDefault] of [
      [CKA.extractable, 0],
      [CKA.private, 1],
    ] as const) {
      if (attributeIn(asked, attribute) === undefined) asked.push({ type: attribute, value: Uint8Array.of(byDefault) });
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

/** Checks the template of a C_CreateObject and returns the creation request. */
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

/** Checks the template of a C_CopyObject and returns the creation request. */
export function requestCopy(source: VirtualObject, template: readonly Attribute[]): CreationRequest {
  const name = 'C_CopyObject';
  const { description } = source;
  violationError(name, checkCopy(template, description.class));
  const request = objectRequestOf(name, template, description.class, description.type, description.token);
  const described: readonly Attribute[] = [
    { type: CKA.label, value: description.label },
    ...(description.class === CKO.data ? [] : [{ type: CKA.id, value: description.id }]),
  ];
  // A copy's template may not hold class and type; `step` removes them.
  const asked = [...described.filter(({ type }) => attributeIn(template, type) === undefined), ...request.asked];
  const fixed: readonly number[] = [CKA.class, CKA.keyType, CKA.certificateType];
  return {
    function: name,
    mechanism: undefined,
    uses: [source],
    requests: [{ ...request, asked }],
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

/** Returns the request of a call that makes one key from another key, in the same way on every member. */
function requestFromKey(
  name: 'C_UnwrapKey' | 'C_DeriveKey',
  mechanism: Mechanism,
  key: VirtualObject,
  template: readonly Attribute[],
  named: readonly VirtualObject[],
  keyStep: (bound: Mechanism, handle: Uint8Array, template: readonly Attribute[]) => Step,
): CreationRequest {
  return {
    function: name,
    mechanism: mechanism.type,
    uses: [key, ...named],
    requests: [objectRequestOf(name, template, classIn(template), undefined)],
    isRepeatable: true,
    isCopy: false,
    step: ([handle = new Uint8Array(8), ...others], [own = []]) => keyStep(bindObjects(mechanism, others), handle, own),
  };
}

/** Checks the template of a C_UnwrapKey and returns the creation request. */
export function requestUnwrap(
  mechanism: Mechanism,
  key: VirtualObject,
  wrapped: Uint8Array,
  template: readonly Attribute[],
  /** Objects that the mechanism's parameter names. */
  named: readonly VirtualObject[] = [],
): CreationRequest {
  const name = 'C_UnwrapKey';
  violationError(name, checkMade(template, [CKO.secretKey, CKO.privateKey]));
  return requestFromKey(name, mechanism, key, template, named, (bound, handle, own) =>
    step(name, bound, handle, wrapped, own),
  );
}

/** Checks the template of a C_DeriveKey and returns the creation request. */
export function requestDerive(
  mechanism: Mechanism,
  key: VirtualObject,
  template: readonly Attribute[],
  /** Objects that the mechanism's parameter names. */
  named: readonly VirtualObject[] = [],
): CreationRequest {
  const name = 'C_DeriveKey';
  violationError(name, checkMade(template, [CKO.secretKey]));
  return requestFromKey(name, mechanism, key, template, named, (bound, handle, own) => step(name, bound, handle, own));
}

/** Checks the template of a C_GenerateKey and returns the creation request. */
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

/** Checks the templates of a C_GenerateKeyPair and returns the creation request. */
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
