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

/** Source of an object on a member. */
export type Origin =
  /** The member runs the call itself. */
  | { readonly kind: 'made'; readonly creation: CreationRequest }
  /** The member unwraps it. */
  | { readonly kind: 'unwrapped'; readonly wrapped: Wrapped }
  /** The member has it as a session object, made under that login. */
  | { readonly kind: 'kept'; readonly handle: Uint8Array; readonly login: Login }
  /** The template holds the value: the object is public, or may be copied in the clear. */
  | { readonly kind: 'created' };

/** Object that is to be installed on a member. */
export interface PlannedReplica {
  readonly object: VirtualObject;
  readonly origin: Origin;
  /** Complete template without CKA_TOKEN. */
  readonly template: readonly Attribute[];
  /** True for a token object, false for a session object. */
  readonly token: boolean;
}

/** Object that was just installed on a member. */
export interface InstalledReplica {
  readonly planned: PlannedReplica;
  /** Real handle. */
  readonly handle: Uint8Array;
  /** True if it was proven to be the group's key; false if nothing could be proven. */
  readonly proven: boolean;
}

/** Result of an installation job. */
export interface InstallationResult {
  readonly installed: readonly InstalledReplica[];
  /** Real handles of all objects that were written, including records. */
  readonly handles: readonly Uint8Array[];
  /** Object that became another one than planned: another identity or another key. */
  readonly wrong: VirtualObject | undefined;
}

/** Adds the steps that read and prove an installed object to a job, and judges the reply. */
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
    /** Salt that the object's proofs were taken with. */
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

  /** Returns true if it is the planned object, false if it is another one, undefined if nothing could be proven. */
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
 * Installs objects on one member in one job: writes the records, then makes each object as a session object, proves it,
 * and copies it to a token object. A job that fails leaves nothing behind.
 */
export class Installation {
  readonly #group: Group;
  readonly #member: Member;
  readonly #planned: readonly PlannedReplica[];
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
    this.#planned = plannedReplicas;
    this.#records = records;
  }

  /** Returns the member job; undefined if a wrapped key cannot be unwrapped on this member. */
  memberJob(): MemberJob | undefined {
    const { ledger } = this.#group;
    const objects: VirtualObject[] = [];
    for (const { origin } of this.#planned) {
      if (origin.kind === 'made') objects.push(...origin.creation.uses);
      if (origin.kind === 'unwrapped') {
        const unwrapInputs = unwrapInputsOf(ledger, origin.wrapped, this.#member.serial);
        if (unwrapInputs === undefined) return undefined;
        objects.push(unwrapInputs.key);
      }
    }
    const onLoginSession = this.#planned.some(({ token }) => !token);
    const [kept] = this.#planned.flatMap(({ origin }) => (origin.kind === 'kept' ? [origin.login] : []));
    return {
      function: this.#function,
      objects,
      ...(kept === undefined ? {} : { login: kept }),
      job: (handles) => ({ steps: this.#build(handles).steps, onLoginSession }),
    };
  }

  #build(handles: readonly Uint8Array[]): JobBuilder {
    const builder = new JobBuilder();
    // Records come first: an object without its record would get another handle in other processes.
    this.#written = this.#records.map((record) => builder.addRecord(record));
    this.#readers = [];
    let next = 0;
    for (const planned of this.#planned) {
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
        if (unwrapInputs === undefined) throw new Error(`a key was not wrapped for ${this.#member.name}`);
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
    return builder;
  }

  /** Reads the reply to the member job. */
  read(reply: JobReply): InstallationResult {
    const installed: InstalledReplica[] = [];
    let wrong: VirtualObject | undefined;
    for (const { reader, kept } of this.#readers) {
      const judgement = reader.judge(reply);
      if (judgement === false) wrong = reader.planned.object;
      installed.push({ planned: reader.planned, handle: handleAt(reply, kept), proven: judgement === true });
    }
    const written = this.#written.map((at) => handleAt(reply, at));
    const own = installed.map(({ handle }) => handle);
    return { installed, handles: [...written, ...own], wrong };
  }
}

/** Returns true if the object may not be copied: a session object cannot become a token object then. */
function isUncopyable({ template }: PlannedReplica): boolean {
  return isTrueIn(template, CKA.copyable) === false;
}

/** Returns the real handle of the object that a step made. */
function handleAt(reply: JobReply, index: number): Uint8Array {
  const result = reply.results[index];
  if (result?.code !== CKR_OK || !(result.value instanceof Uint8Array))
    throw new RangeError(`step ${index} made no object`);
  return result.value;
}
