import { type Aspect, aspectOf } from '../../spec/aspects.js';
import type { CipherOutput, ReadAttribute } from '../../spec/calls.js';
import { CKR } from '../../spec/codes.js';
import { endOf, type Job, type JobReply, resultOf, step } from '../../spec/job.js';
import { bindObjects, type Mechanism, takeReturned } from '../../spec/mechanism.js';
import type { Connection } from '../group/connection.js';
import type { Member } from '../group/member.js';
import type { VirtualObject } from '../objects/object.js';

/** Member and connection of an attempt. */
export interface Location {
  readonly member: Member;
  readonly connection: Connection;
}

/** Call as core sees it: the objects it needs, its job, and the meaning of the reply. */
export interface Operation<T> {
  /** Function that errors and events name. */
  readonly function: string;
  /** Objects that the member needs for it. */
  readonly objects: readonly VirtualObject[];
  readonly mechanism: number | undefined;
  /** Class of the call; decides whether it may be repeated (Rule 6). */
  readonly aspect: Aspect;
  /** Label of operations of like duration: function, mechanism and magnitude of the input's size. */
  readonly kind: string;
  /** The only member that may run it; if undefined, every member may. */
  readonly only?: Member | undefined;
  /** Member that does not run it, since it lacks the objects; undefined without one. */
  readonly except?: Member | undefined;
  /** Codes besides CKR_OK that are results, not failures. */
  readonly results: ReadonlySet<number>;
  /** Returns the job, given the real handles of `objects` in their order. */
  readonly job: (handles: readonly Uint8Array[], location: Location) => Job;
  readonly read: (reply: JobReply, location: Location) => T;
}

/** Codes with which a verification answers that a signature is not valid. */
export const verificationFailures: ReadonlySet<number> = new Set([CKR.signatureInvalid, CKR.signatureLenRange]);
const NO_HANDLE = new Uint8Array(8);
/** `results` of an operation whose only result code is CKR_OK. */
export const noCodes: ReadonlySet<number> = new Set();

/** Maximum number of labels cached for one function. A cached string is hashed once, a new one at every lookup. */
const MOST_LABELS = 4096;
const labels = new Map<string, Map<number, string>>();

function labelOf(name: string, number: number, make: () => string): string {
  const byNumber = labels.get(name) ?? new Map<number, string>();
  if (byNumber.size === 0) labels.set(name, byNumber);
  const known = byNumber.get(number);
  if (known !== undefined) return known;
  if (byNumber.size >= MOST_LABELS) byNumber.clear();
  const label = make();
  byNumber.set(number, label);
  return label;
}

/** Returns the `kind` of an operation; `size` is that of its input (bytes), told apart by powers of two above 1 KiB. */
export function kindOfOperation(name: string, mechanism: number | undefined, size: number): string {
  const magnitude = 32 - Math.clz32(size >>> 10);
  return labelOf(name, (mechanism ?? -1) * 64 + magnitude, () => `${name}:${mechanism ?? ''}:${magnitude}`);
}

/** Returns the label of a function with its mechanism. */
export function labelFor(name: string, mechanism: number | undefined): string {
  return labelOf(name, (mechanism ?? -1) * 64 + 63, () => `${name}:${mechanism ?? ''}`);
}

function operation<T>(
  name: string,
  object: VirtualObject | undefined,
  mechanism: Mechanism | undefined,
  size: number,
  job: (handle: Uint8Array) => Job,
  read: (reply: JobReply) => T,
): Operation<T> {
  return {
    function: name,
    objects: object === undefined ? [] : [object],
    mechanism: mechanism?.type,
    aspect: aspectOf(name, mechanism?.type),
    kind: kindOfOperation(name, mechanism?.type, size),
    results: name === 'C_Verify' ? verificationFailures : noCodes,
    job: ([handle = NO_HANDLE]) => job(handle),
    read,
  };
}

/** C_Sign: returns the signature. */
export function sign(mechanism: Mechanism, key: VirtualObject, data: Uint8Array): Operation<Buffer> {
  return operation(
    'C_Sign',
    key,
    mechanism,
    data.length,
    (handle) => ({ steps: [step('C_SignInit', mechanism, handle), step('C_Sign', data)] }),
    (reply) => resultOf(reply, 1, 'C_Sign'),
  );
}

/** C_Verify: returns true if the signature is valid. */
export function verify(
  mechanism: Mechanism,
  key: VirtualObject,
  data: Uint8Array,
  signature: Uint8Array,
): Operation<boolean> {
  return operation(
    'C_Verify',
    key,
    mechanism,
    data.length,
    (handle) => ({ steps: [step('C_VerifyInit', mechanism, handle), step('C_Verify', data, signature)] }),
    (reply) => !verificationFailures.has(endOf(reply).code),
  );
}

function readCipher(mechanism: Mechanism, { output, returned }: CipherOutput): Buffer {
  takeReturned(mechanism, returned);
  return output;
}

/** C_Encrypt: returns the ciphertext; writes the values that the token returned to the mechanism's parameter. */
export function encrypt(mechanism: Mechanism, key: VirtualObject, data: Uint8Array): Operation<Buffer> {
  return operation(
    'C_Encrypt',
    key,
    mechanism,
    data.length,
    (handle) => ({ steps: [step('C_EncryptInit', mechanism, handle), step('C_Encrypt', data)] }),
    (reply) => readCipher(mechanism, resultOf(reply, 1, 'C_Encrypt')),
  );
}

/** C_Decrypt: returns the plaintext. */
export function decrypt(mechanism: Mechanism, key: VirtualObject, data: Uint8Array): Operation<Buffer> {
  return operation(
    'C_Decrypt',
    key,
    mechanism,
    data.length,
    (handle) => ({ steps: [step('C_DecryptInit', mechanism, handle), step('C_Decrypt', data)] }),
    (reply) => resultOf(reply, 1, 'C_Decrypt').output,
  );
}

/** C_Digest: returns the digest. */
export function digest(mechanism: Mechanism, data: Uint8Array): Operation<Buffer> {
  return operation(
    'C_Digest',
    undefined,
    mechanism,
    data.length,
    () => ({ steps: [step('C_DigestInit', mechanism), step('C_Digest', data)] }),
    (reply) => resultOf(reply, 1, 'C_Digest'),
  );
}

/** C_GenerateRandom: returns `size` random bytes. */
export function random(size: number): Operation<Buffer> {
  return operation(
    'C_GenerateRandom',
    undefined,
    undefined,
    size,
    () => ({ steps: [step('C_GenerateRandom', size)] }),
    (reply) => resultOf(reply, 0, 'C_GenerateRandom'),
  );
}

/** C_GetAttributeValue: returns the attributes in the order of `types`. */
export function readAttributes(object: VirtualObject, types: readonly number[]): Operation<readonly ReadAttribute[]> {
  return operation(
    'C_GetAttributeValue',
    object,
    undefined,
    0,
    (handle) => ({ steps: [step('C_GetAttributeValue', handle, types)] }),
    (reply) => resultOf(reply, 0, 'C_GetAttributeValue'),
  );
}

/** C_GetObjectSize: returns the size (bytes) as the answering token counts it. */
export function sizeOf(object: VirtualObject): Operation<number> {
  return operation(
    'C_GetObjectSize',
    object,
    undefined,
    0,
    (handle) => ({ steps: [step('C_GetObjectSize', handle)] }),
    (reply) => resultOf(reply, 0, 'C_GetObjectSize'),
  );
}

/** C_WrapKey: returns `key` wrapped under `wrapping`. */
export function wrapKey(
  mechanism: Mechanism,
  wrapping: VirtualObject,
  key: VirtualObject,
  /** Objects that the mechanism's parameter names. */
  named: readonly VirtualObject[] = [],
): Operation<Buffer> {
  return {
    function: 'C_WrapKey',
    objects: [wrapping, key, ...named],
    mechanism: mechanism.type,
    aspect: 'pure',
    kind: kindOfOperation('C_WrapKey', mechanism.type, 0),
    results: noCodes,
    job: ([by = NO_HANDLE, of = NO_HANDLE, ...others]) => ({
      steps: [step('C_WrapKey', bindObjects(mechanism, others), by, of)],
    }),
    read: (reply) => resultOf(reply, 0, 'C_WrapKey'),
  };
}
