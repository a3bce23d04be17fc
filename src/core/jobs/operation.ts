import { type Aspect, aspectOf } from '../../spec/aspects.js';
import type { CipherOutput, ReadAttribute } from '../../spec/calls.js';
import { CKR } from '../../spec/codes.js';
import { endOf, type Job, type JobReply, resultOf, step } from '../../spec/job.js';
import { bindObjects, type Mechanism, takeReturned } from '../../spec/mechanism.js';
import type { Connection } from '../group/connection.js';
import type { Member } from '../group/member.js';
import type { VirtualObject } from '../objects/object.js';

/** Where an attempt is made. */
export interface Location {
  readonly member: Member;
  readonly connection: Connection;
}

/** A call as core sees it: what it needs, the job it is, and what the reply means. */
export interface Operation<T> {
  /** The function that errors and events name. */
  readonly function: string;
  /** The objects it needs on the member that does it. */
  readonly objects: readonly VirtualObject[];
  readonly mechanism: number | undefined;
  readonly aspect: Aspect;
  /** What its duration is compared with: function, mechanism and the size of the input. */
  readonly kind: string;
  /** The only member that may do it; any that can where none is named. */
  readonly only?: Member | undefined;
  /** Codes besides CKR_OK that are results. */
  readonly results: ReadonlySet<number>;
  /** The job, with the objects' real handles in their order. */
  readonly job: (handles: readonly Uint8Array[], place: Location) => Job;
  readonly read: (reply: JobReply, place: Location) => T;
}

/** What a verification answers besides CKR_OK. */
export const verificationFailures: ReadonlySet<number> = new Set([CKR.signatureInvalid, CKR.signatureLenRange]);
const NO_HANDLE = new Uint8Array(8);
export const noCodes: ReadonlySet<number> = new Set();

// The same string each time: it is looked up several times a call, and a new one would be hashed anew.
const MOST_LABELS = 4096;
const labels = new Map<string, Map<number, string>>();

function labelOf(name: string, number: number, make: () => string): string {
  const ofName = labels.get(name) ?? new Map<number, string>();
  if (ofName.size === 0) labels.set(name, ofName);
  const known = ofName.get(number);
  if (known !== undefined) return known;
  if (ofName.size >= MOST_LABELS) ofName.clear();
  const label = make();
  ofName.set(number, label);
  return label;
}

export function kindOfOperation(name: string, mechanism: number | undefined, size: number): string {
  const magnitude = 32 - Math.clz32(size >>> 10);
  return labelOf(name, (mechanism ?? -1) * 64 + magnitude, () => `${name}:${mechanism ?? ''}:${magnitude}`);
}

/** A function with its mechanism. */
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
    (reply) => {
      return !verificationFailures.has(endOf(reply).code);
    },
  );
}

function readCipher(mechanism: Mechanism, { output, returned }: CipherOutput): Buffer {
  takeReturned(mechanism, returned);
  return output;
}

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

/** C_GetObjectSize: as the token that is asked counts it. */
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

/** C_WrapKey: the wrapped form of `key` under `wrapping`. */
export function wrapKey(
  mechanism: Mechanism,
  wrapping: VirtualObject,
  key: VirtualObject,
  /** The objects that the mechanism's parameter names. */
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
