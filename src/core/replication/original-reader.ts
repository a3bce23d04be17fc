import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import type { ObjectRef, ReadAttribute } from '../../spec/calls.js';
import { CKA, CKK, CKO } from '../../spec/codes.js';
import { ck } from '../../spec/constants.js';
import { type JobReply, optional, resultOf, step } from '../../spec/job.js';
import { attributeIn } from '../../spec/rules.js';
import { CKR_OK } from '../../spec/verdict.js';
import type { Group } from '../group/group.js';
import { isSecretRequest, isTrueIn, lengthIn, type ObjectRequest } from '../jobs/creation-request.js';
import { type JobBuilder, withAttribute } from '../jobs/job-builder.js';
import { addWrapping, type WrapMethod, wrapMethodFor } from '../jobs/key-wrapping.js';
import { comparedProvers, mayBeProbed, type Prover } from '../jobs/proof.js';
import { forgottenTypes, materialTypes, secretTypes, statedTypes } from '../objects/attribute-sets.js';
import {
  type Description,
  describe,
  describedTypes,
  describeValues,
  hasPublicValue,
  identityOf,
  publicValueTypes,
  templateOf,
} from '../objects/identity.js';
import type { ProofKind, Wrapped } from '../objects/key-note.js';
import type { GroupRecord } from '../records/record.js';

/** Maximum number of objects of equal identity that are looked at for a token object. */
const TWIN_LIMIT = 64;

const keyTypesOfHmac = new Set(
  ['MD5', 'SHA_1', 'SHA256', 'SHA384', 'SHA512', 'SHA224'].map((hash) => ck(`CKK_${hash}_HMAC`)),
);

const readTypes: readonly number[] = [...describedTypes, ...statedTypes, ...forgottenTypes, ...materialTypes];

/** Returns the way to wrap the key that a request asks for. */
export function wrapMethodOfRequest(record: GroupRecord, request: ObjectRequest): WrapMethod {
  const isGeneric = request.type === CKK.genericSecret || keyTypesOfHmac.has(request.type);
  return wrapMethodFor(record, isGeneric && request.class === CKO.secretKey, lengthIn(request.asked));
}

/** Original as its member shows it: an object made for a moment, from which all replicas come. */
export interface OriginalObject {
  readonly request: ObjectRequest;
  readonly description: Description;
  readonly described: readonly (Uint8Array | undefined)[];
  readonly valueDigest: Uint8Array;
  readonly identity: Uint8Array;
  readonly proofs: ReadonlyMap<ProofKind, Uint8Array>;
  /** Whole template of the object, without CKA_TOKEN and without the attributes that make up a secret. */
  readonly template: readonly Attribute[];
  readonly answers: readonly Attribute[];
  readonly wrapped: Wrapped | undefined;
  /** Value of a key; present only if the policy allows copies in the clear and the key cannot be made again. */
  readonly value: Uint8Array | undefined;
  /** True if the member already has a token object of equal identity. */
  readonly hasTwins: boolean;
}

function presentIn(read: readonly ReadAttribute[], types: readonly number[], type: number): Uint8Array | undefined {
  const attribute = read[types.indexOf(type)];
  return attribute?.presence === 'present' ? attribute.value : undefined;
}

/** Describes the requested object as far as the request tells. */
function expected({ class: objectClass, type, asked }: ObjectRequest): Description {
  const given = withAttribute(asked, { type: CKA.class, value: ulongBytes(objectClass) });
  const description = describeValues(describedTypes.map((each) => attributeIn(given, each)));
  return Number.isNaN(type) ? description : { ...description, type };
}

/** Adds the steps that examine one original to its job, and reads their results. */
export class OriginalReader {
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
    /** Object to wrap. For a copy this is its source, which may allow wrapping when the copy does not. */
    wrappable: ObjectRef,
    /** True if an object of equal identity may be there, so that the handle depends on it. */
    looksForTwins: boolean,
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
        this.#wrapped = addWrapping(builder, record, wrapMethodOfRequest(record, request), domain, wrappable);
      }
    }
    if (request.token && looksForTwins) {
      this.#twinsAt = builder.add(optional(step('X_Find', templateOf(this.#expected), TWIN_LIMIT, [CKA.token])));
    }
    if (!stays) builder.add(step('C_DestroyObject', key));
  }

  /** Returns true for public objects, and for a key that may be copied in the clear and cannot be made again. */
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
    // CKA_TOKEN comes from the request: the original itself is always a session object.
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

  /** Returns the requested attributes and those that the token chose; for a public key also its material. */
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
