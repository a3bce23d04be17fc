import type { Attribute } from '../../spec/attribute.js';
import type { ObjectRef, ReadAttribute } from '../../spec/calls.js';
import { CKA } from '../../spec/codes.js';
import { type JobReply, optional, resultOf, step } from '../../spec/job.js';
import { CKR_OK } from '../../spec/verdict.js';
import { sameBytes } from '../base/bytes.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { describe, describedTypes, hasPublicValue, identityOf, publicValueTypes } from '../objects/identity.js';
import type { Wrapped } from '../objects/key-note.js';
import type { VirtualObject } from '../objects/object.js';
import type { AnyRecord } from '../records/record.js';
import { type CreationRequest, isTrueIn } from './creation-request.js';
import { inSession, JobBuilder, lateIn, onToken, withAttribute, withoutLate } from './job-builder.js';
import { unwrapInputsOf } from './key-wrapping.js';
import type { Login, MemberJob } from './member-job.js';
import { comparedProvers, mayBeProbed, type Prover, proves, publicMaterialOf, signatureProver } from './proof.js';

/** Where an object comes from on a member. */
export type Origin =
  /** The call itself makes it there too. */
  | { readonly kind: 'made'; readonly creation: CreationRequest }
  /** It comes wrapped. */
  | { readonly kind: 'unwrapped'; readonly wrapped: Wrapped }
  /** It is there as a session object already. */
  | { readonly kind: 'kept'; readonly handle: Uint8Array; readonly login: Login }
  /** It is public, or may be copied in the clear: the template holds its value. */
  | { readonly kind: 'created' };

/** An object that is to be on a member. */
export interface PlannedReplica {
  readonly object: VirtualObject;
  readonly origin: Origin;
  /** The whole template, without CKA_TOKEN. */
  readonly template: readonly Attribute[];
  readonly token: boolean;
}

/** How an object stands where it was just put. */
export interface InstalledReplica {
  readonly piece: PlannedReplica;
  readonly handle: Uint8Array;
  readonly proven: boolean;
}

export interface InstallationResult {
  readonly installed: readonly InstalledReplica[];
  /** All token objects that were written, records too. */
  readonly handles: readonly Uint8Array[];
  /** One that did not come out as it should. */
  readonly wrong: VirtualObject | undefined;
}

/** Reads what came of a piece, and judges whether it is the object that it should be. */
export class InstalledReplicaReader {
  readonly #described: number;
  readonly #valueAt: number | undefined;
  readonly #prover: Prover | undefined;
  readonly #proofAt: number;
  readonly #challenge: Uint8Array;

  constructor(
    readonly group: Group,
    readonly planned: PlannedReplica,
    builder: JobBuilder,
    ref: ObjectRef,
    /** What the object's proofs were taken with. */
    readonly salt: Uint8Array = group.salt,
  ) {
    const { object } = planned;
    const { description } = object;
    this.#described = builder.add(step('C_GetAttributeValue', ref, describedTypes));
    if (hasPublicValue(description)) this.#valueAt = builder.add(step('C_GetAttributeValue', ref, publicValueTypes));
    this.#challenge = group.port.randomBytes(32);
    this.#prover = this.#proverOf(object);
    this.#proofAt = builder.steps.length;
    if (this.#prover !== undefined) builder.add(...this.#prover.steps(ref, this.#proofAt).map(optional));
  }

  #proverOf({ description, reference }: VirtualObject): Prover | undefined {
    if (!mayBeProbed(description)) return undefined;
    if (reference.has('signature')) {
      return signatureProver(description, this.#challenge, (bytes) => this.group.port.sha256(bytes));
    }
    return comparedProvers(description, this.salt).find(({ kind }) => reference.has(kind) && proves(kind));
  }

  /** Whether it is the object that it should be; undefined where that cannot be told. */
  judge(reply: JobReply): boolean | undefined {
    const { object } = this.planned;
    const read: readonly ReadAttribute[] = resultOf(reply, this.#described, 'C_GetAttributeValue');
    const value = this.#valueAt === undefined ? undefined : resultOf(reply, this.#valueAt, 'C_GetAttributeValue')[0];
    const description = describe(read);
    const digest = value === undefined ? new Uint8Array() : this.group.port.sha256(value.value);
    if (!sameBytes(identityOf(description, digest), object.identity)) return false;
    if (this.#prover === undefined) return undefined;
    const proof = this.#prover.read(reply, this.#proofAt);
    if (proof.length === 0) return undefined;
    const expected = object.reference.get(this.#prover.kind) ?? new Uint8Array();
    if (this.#prover.kind !== 'signature') return sameBytes(proof, expected);
    return this.group.port.verifySignature(publicMaterialOf(description, expected), this.#challenge, proof);
  }
}

/**
 * Puts objects on one member, in one job: makes each as a session object, asks for what proves it, keeps it as a
 * token object, and writes the records. A job that fails leaves nothing behind.
 */
export class Installation {
  readonly #group: Group;
  readonly #member: Member;
  readonly #pieces: readonly PlannedReplica[];
  readonly #records: readonly AnyRecord[];
  readonly #function: string;
  #readers: { readonly reader: InstalledReplicaReader; readonly kept: number }[] = [];
  #written: number[] = [];

  constructor(
    group: Group,
    member: Member,
    functionName: string,
    plannedReplicas: readonly PlannedReplica[],
    records: readonly AnyRecord[],
  ) {
    this.#group = group;
    this.#member = member;
    this.#function = functionName;
    this.#pieces = plannedReplicas;
    this.#records = records;
  }

  /** Undefined when the member cannot be reached by a wrapped key. */
  memberJob(): MemberJob | undefined {
    const { ledger } = this.#group;
    const objects: VirtualObject[] = [];
    for (const { origin } of this.#pieces) {
      if (origin.kind === 'made') objects.push(...origin.creation.uses);
      if (origin.kind === 'unwrapped') {
        const unwrapInputs = unwrapInputsOf(ledger, origin.wrapped, this.#member.serial);
        if (unwrapInputs === undefined) return undefined;
        objects.push(unwrapInputs.key);
      }
    }
    const onLoginSession = this.#pieces.some(({ token }) => !token);
    const [kept] = this.#pieces.flatMap(({ origin }) => (origin.kind === 'kept' ? [origin.login] : []));
    return {
      function: this.#function,
      objects,
      ...(kept === undefined ? {} : { login: kept }),
      job: (handles) => ({ steps: this.#script(handles).steps, onLoginSession }),
    };
  }

  #script(handles: readonly Uint8Array[]): JobBuilder {
    const builder = new JobBuilder();
    this.#readers = [];
    let next = 0;
    for (const planned of this.#pieces) {
      const { origin, token } = planned;
      const isDirect = !token || isUncopyable(planned) || (origin.kind === 'made' && origin.creation.isCopy);
      const template = isDirect
        ? withAttribute(planned.template, token ? onToken : inSession)
        : withAttribute(withoutLate(planned.template), inSession);
      if (origin.kind === 'kept') {
        const kept = builder.add(step('C_CopyObject', origin.handle, [onToken]));
        this.#readers.push({ reader: new InstalledReplicaReader(this.#group, planned, builder, { step: kept }), kept });
        continue;
      }
      let made: number;
      if (origin.kind === 'made') {
        const { uses } = origin.creation;
        made = builder.add(origin.creation.step(handles.slice(next, next + uses.length), [template]));
        next += uses.length;
      } else if (origin.kind === 'unwrapped') {
        const unwrapInputs = unwrapInputsOf(this.#group.ledger, origin.wrapped, this.#member.serial);
        if (unwrapInputs === undefined) throw new Error('a key was not wrapped for the member that is to get it');
        const handle = handles[next] ?? new Uint8Array(8);
        made = builder.add(step('C_UnwrapKey', unwrapInputs.mechanism, handle, unwrapInputs.blob, template));
        next += 1;
      } else {
        made = builder.add(step('C_CreateObject', template));
      }
      const reader = new InstalledReplicaReader(this.#group, planned, builder, { step: made });
      const kept = isDirect ? made : builder.persist({ step: made }, lateIn(planned.template));
      this.#readers.push({ reader, kept });
    }
    this.#written = this.#records.map((record) => builder.addRecord(record));
    return builder;
  }

  read(reply: JobReply): InstallationResult {
    const installed: InstalledReplica[] = [];
    let wrong: VirtualObject | undefined;
    for (const { reader, kept } of this.#readers) {
      const judgement = reader.judge(reply);
      if (judgement === false) wrong = reader.planned.object;
      installed.push({ piece: reader.planned, handle: handleAt(reply, kept), proven: judgement === true });
    }
    const written = this.#written.map((at) => handleAt(reply, at));
    const own = installed.map(({ handle }) => handle);
    return { installed, handles: [...own, ...written], wrong };
  }
}

/** What may not be copied cannot come from a session object: it has to be written piece by piece. */
function isUncopyable({ template }: PlannedReplica): boolean {
  return isTrueIn(template, CKA.copyable) === false;
}

/** The object that a step made. */
function handleAt(reply: JobReply, index: number): Uint8Array {
  const result = reply.results[index];
  if (result?.code !== CKR_OK || !(result.value instanceof Uint8Array))
    throw new RangeError(`step ${index} made no object`);
  return result.value;
}
