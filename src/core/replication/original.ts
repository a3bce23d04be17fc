import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import type { ObjectRef, ReadAttribute } from '../../spec/calls.js';
import { CKA, CKK, CKO } from '../../spec/codes.js';
import { ck } from '../../spec/constants.js';
import { type JobReply, optional, resultOf, step } from '../../spec/job.js';
import { attributeIn } from '../../spec/rules.js';
import { CKR_OK } from '../../spec/verdict.js';
import type { Task } from '../base/task.js';
import { runCall } from '../call/call.js';
import type { Group } from '../group/group.js';
import {
  type CreationRequest,
  isSecretRequest,
  isTrueIn,
  lengthIn,
  type ObjectRequest,
  refOf,
} from '../jobs/creation-request.js';
import { inSession, JobBuilder, withAttribute, withoutLate } from '../jobs/job-builder.js';
import { addWrapping, wrapMethodFor } from '../jobs/key-wrapping.js';
import type { MemberJob } from '../jobs/member-job.js';
import { noCodes, type Operation } from '../jobs/operation.js';
import { comparedProvers, mayBeProbed, type Prover } from '../jobs/proof.js';
import { forgottenTypes, materialTypes, secretTypes, statedTypes } from '../objects/attribute-sets.js';
import {
  type Description,
  describe,
  describedTypes,
  hasPublicValue,
  identityOf,
  publicValueTypes,
  templateOf,
} from '../objects/identity.js';
import type { ProofKind, Wrapped } from '../objects/key-note.js';
import type { VirtualObject } from '../objects/object.js';

const keyTypesOfHmac = new Set(
  ['MD5', 'SHA_1', 'SHA256', 'SHA384', 'SHA512', 'SHA224'].map((hash) => ck(`CKK_${hash}_HMAC`)),
);

const readTypes: readonly number[] = [...describedTypes, ...statedTypes, ...forgottenTypes, ...materialTypes];

/** What one member says of an object that was made there for a moment. */
export interface OriginalObject {
  readonly request: ObjectRequest;
  readonly description: Description;
  readonly described: readonly (Uint8Array | undefined)[];
  readonly valueDigest: Uint8Array;
  readonly identity: Uint8Array;
  readonly proofs: ReadonlyMap<ProofKind, Uint8Array>;
  /** The whole template of it, without CKA_TOKEN and without what makes up a secret. */
  readonly template: readonly Attribute[];
  readonly answers: readonly Attribute[];
  readonly wrapped: Wrapped | undefined;
  /** Its value, where the policy allows to copy it in the clear and nothing else can be done. */
  readonly value: Uint8Array | undefined;
  /** Token objects that look like it were there already. */
  readonly hasTwins: boolean;
}

function presentIn(read: readonly ReadAttribute[], types: readonly number[], type: number): Uint8Array | undefined {
  const attribute = read[types.indexOf(type)];
  return attribute?.presence === 'present' ? attribute.value : undefined;
}

/** The description of what is asked for, as far as the request tells it. */
function expected({ class: objectClass, type, asked }: ObjectRequest): Description {
  const given = withAttribute(asked, { type: CKA.class, value: ulongBytes(objectClass) });
  const description = describe(
    describedTypes.map((each) => {
      const value = attributeIn(given, each);
      return value === undefined
        ? { presence: 'invalid', value: Buffer.alloc(0) }
        : { presence: 'present', value: Buffer.from(value) };
    }),
  );
  return Number.isNaN(type) ? description : { ...description, type };
}

class OriginalReader {
  readonly #expected: Description;
  readonly #attributesAt: number;
  readonly #valueAt: number | undefined;
  readonly #proofs: { readonly prover: Prover; readonly at: number }[] = [];
  readonly #wrapped: ((reply: JobReply) => Wrapped | undefined) | undefined;
  readonly #twinsAt: number | undefined;

  constructor(
    readonly group: Group,
    readonly request: ObjectRequest,
    builder: JobBuilder,
    key: ObjectRef,
    domain: Uint8Array | undefined,
    isRepeatable: boolean,
    stays: boolean,
    /** What is wrapped: of a copy its source, which may allow it where the copy does not. */
    wrappable: ObjectRef,
  ) {
    this.#expected = expected(request);
    this.#attributesAt = builder.add(step('C_GetAttributeValue', key, readTypes));
    if (this.#readsValue(isRepeatable)) {
      this.#valueAt = builder.add(optional(step('C_GetAttributeValue', key, publicValueTypes)));
    }
    if (isSecretRequest(request)) {
      for (const prover of comparedProvers(this.#expected, group.salt)) {
        const at = builder.steps.length;
        builder.add(...prover.steps(key, at).map(optional));
        this.#proofs.push({ prover, at });
      }
      const { record } = group.ledger;
      if (record !== undefined && domain !== undefined) {
        const isGeneric = request.type === CKK.genericSecret || keyTypesOfHmac.has(request.type);
        const way = wrapMethodFor(record, isGeneric && request.class === CKO.secretKey, lengthIn(request.asked));
        this.#wrapped = addWrapping(builder, record, way, domain, wrappable);
      }
    }
    if (request.token) {
      this.#twinsAt = builder.add(optional(step('X_Find', templateOf(this.#expected), 64, [CKA.token])));
    }
    if (!stays) builder.add(step('C_DestroyObject', key));
  }

  /** Of public objects always; of a key only where it may be copied in the clear and could not travel otherwise. */
  #readsValue(isRepeatable: boolean): boolean {
    const { request, group } = this;
    if (hasPublicValue(this.#expected)) return true;
    return (
      group.policy.clearCopy === 'allow' &&
      !isRepeatable &&
      isSecretRequest(request) &&
      isTrueIn(request.asked, CKA.extractable) === true &&
      isTrueIn(request.asked, CKA.sensitive) !== true
    );
  }

  read(reply: JobReply): OriginalObject {
    const read = resultOf(reply, this.#attributesAt, 'C_GetAttributeValue');
    // The draft is a session object, whatever is asked for.
    const token = Uint8Array.of(this.request.token ? 1 : 0);
    const described = describedTypes.map((type, index) => {
      if (type === CKA.token) return token;
      const attribute = read[index];
      return attribute?.presence === 'present' ? new Uint8Array(attribute.value) : undefined;
    });
    const description = { ...describe(read.slice(0, describedTypes.length)), token: this.request.token };
    const value = this.#valueIn(reply);
    const isPublic = hasPublicValue(description);
    const valueDigest = isPublic ? this.group.port.sha256(value ?? new Uint8Array()) : new Uint8Array();
    const proofs = new Map<ProofKind, Uint8Array>();
    if (mayBeProbed(description)) {
      for (const { prover, at } of this.#proofs) {
        const proof = prover.read(reply, at);
        if (proof.length > 0) proofs.set(prover.kind, proof);
      }
    }
    return {
      request: this.request,
      description,
      described,
      valueDigest,
      identity: identityOf(description, valueDigest),
      proofs,
      template: this.#template(read, isPublic ? value : undefined),
      answers: forgottenTypes.flatMap((type) => {
        const present = presentIn(read, readTypes, type);
        return present === undefined ? [] : [{ type, value: new Uint8Array(present) }];
      }),
      wrapped: this.#wrapped?.(reply),
      value: isPublic ? undefined : value,
      hasTwins: this.#hasTwins(reply),
    };
  }

  #valueIn(reply: JobReply): Uint8Array | undefined {
    if (this.#valueAt === undefined || reply.results[this.#valueAt]?.code !== CKR_OK) return undefined;
    const [attribute] = resultOf(reply, this.#valueAt, 'C_GetAttributeValue');
    return attribute?.presence === 'present' ? new Uint8Array(attribute.value) : undefined;
  }

  #hasTwins(reply: JobReply): boolean {
    if (this.#twinsAt === undefined || reply.results[this.#twinsAt]?.code !== CKR_OK) return false;
    return resultOf(reply, this.#twinsAt, 'X_Find').some(({ attributes: [token] }) => token?.value[0] === 1);
  }

  /** What was asked for, and what the token made of the rest; of public keys their material. */
  #template(read: readonly ReadAttribute[], publicValue: Uint8Array | undefined): readonly Attribute[] {
    const { asked, class: objectClass } = this.request;
    const isKey = isSecretRequest(this.request);
    const template = isKey ? asked.filter(({ type }) => !secretTypes.has(type)) : [...asked];
    const more = objectClass === CKO.publicKey ? [...statedTypes, ...materialTypes] : statedTypes;
    for (const type of more) {
      const value = presentIn(read, readTypes, type);
      if (value === undefined || value.length === 0 || attributeIn(template, type) !== undefined) continue;
      template.push({ type, value: new Uint8Array(value) });
    }
    if (publicValue !== undefined && attributeIn(template, CKA.value) === undefined)
      template.push({ type: CKA.value, value: publicValue });
    return objectClass === CKO.publicKey ? template.filter(({ type }) => type !== CKA.modulusBits) : template;
  }
}

/** The templates of the draft's session objects: as asked, but so that they can be wrapped. */
function originalTemplates(creation: CreationRequest, stays: boolean): readonly (readonly Attribute[])[] {
  return creation.requests.map((part) => {
    let template = withAttribute(withoutLate(part.asked), inSession);
    if (isSecretRequest(part) && !creation.isCopy && !stays)
      template = withAttribute(template, { type: CKA.extractable, value: Uint8Array.of(1) });
    return template;
  });
}

/** What a draft gives: its parts, and where they are if they stay for a moment. */
export interface Original {
  readonly objects: readonly OriginalObject[];
  readonly handles: readonly Uint8Array[];
}

function originalOperation(
  group: Group,
  creation: CreationRequest,
  domain: VirtualObject | undefined,
  stays: boolean,
): Operation<Original> {
  let parts: OriginalReader[] = [];
  return {
    function: creation.function,
    objects: domain === undefined ? creation.uses : [...creation.uses, domain],
    mechanism: creation.mechanism,
    aspect: 'pure',
    kind: `draft:${creation.function}:${creation.mechanism ?? ''}:${requestedSize(creation)}`,
    results: noCodes,
    job: (handles) => {
      const builder = new JobBuilder();
      const made = builder.add(creation.step(handles, originalTemplates(creation, stays)));
      parts = creation.requests.map(
        (part, index) =>
          new OriginalReader(
            group,
            part,
            builder,
            refOf(creation, index, made),
            domain === undefined ? undefined : handles.at(-1),
            creation.isRepeatable,
            stays,
            creation.isCopy ? (handles[0] ?? { step: made }) : refOf(creation, index, made),
          ),
      );
      return { steps: builder.steps, undo: true, longWrite: true, onLoginSession: stays };
    },
    read: (reply) => ({ objects: parts.map((part) => part.read(reply)), handles: stays ? madeIn(reply) : [] }),
  };
}

function madeIn(reply: JobReply): readonly Uint8Array[] {
  const value = reply.results[0]?.value;
  if (value instanceof Uint8Array) return [value];
  const { publicKey, privateKey } = resultOf(reply, 0, 'C_GenerateKeyPair');
  return [publicKey, privateKey];
}

/** How large a key is to be: what its making takes depends on it. */
function requestedSize({ requests }: CreationRequest): string {
  const bits = requests.map(({ asked }) => attributeIn(asked, CKA.modulusBits)).find((value) => value !== undefined);
  return bits === undefined ? '' : Buffer.from(bits).toString('hex');
}

/**
 * Makes what a call is to make once on one member, as session objects, and lets it go again: what comes of it, what
 * proves it, and its wrapped form. It says whether the request is a good one before any token object is touched,
 * and may be run again anywhere: whatever a lost call leaves behind ends with its session.
 */
export function* makeOriginal(
  group: Group,
  creation: CreationRequest,
  deadline: number,
): Task<readonly OriginalObject[]> {
  const wraps = creation.requests.some(isSecretRequest) && group.policy.replication === 'wrap';
  const domain = wraps ? group.ledger.domain : undefined;
  const { objects } = yield* runCall(group, originalOperation(group, creation, domain, false), deadline);
  return objects;
}

/** The same on one member, where the session objects stay: for keys that must not leave it. */
export function originalJobOn(
  group: Group,
  creation: CreationRequest,
): { readonly memberJob: MemberJob; readonly read: Operation<Original>['read'] } {
  const operation = originalOperation(group, creation, undefined, true);
  const { function: name, mechanism, objects, job } = operation;
  return { memberJob: { function: name, mechanism, objects, isSlow: true, job }, read: operation.read };
}

/** Pairs prove their private halves by their public ones. */
export function pairProofs(parts: readonly OriginalObject[]): readonly OriginalObject[] {
  const [own, secret] = parts;
  if (own === undefined || secret === undefined) return parts;
  const point = pointOf(own);
  const isSigned = [CKK.ec, CKK.ecEdwards, CKK.dsa].includes(secret.description.type) && secret.description.signs;
  if (point === undefined || !isSigned) return parts;
  return [own, { ...secret, proofs: new Map([...secret.proofs, ['signature', point]]) }];
}

/** What signatures are checked with: the EC point, or the DSA public value. */
function pointOf({ description, template }: OriginalObject): Uint8Array | undefined {
  if (description.type === CKK.dsa) return attributeIn(template, CKA.value);
  return description.ecPoint.length > 0 ? description.ecPoint : undefined;
}
