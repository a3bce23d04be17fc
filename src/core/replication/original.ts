import type { Attribute } from '../../spec/attribute.js';
import { CKA, CKK } from '../../spec/codes.js';
import { type JobReply, resultOf } from '../../spec/job.js';
import { attributeIn } from '../../spec/rules.js';
import type { Task } from '../base/task.js';
import { runCall } from '../call/call.js';
import type { Group } from '../group/group.js';
import { type CreationRequest, isSecretRequest, type ObjectRequest, refOf } from '../jobs/creation-request.js';
import { inSession, JobBuilder, withAttribute, withoutLate } from '../jobs/job-builder.js';
import type { MemberJob } from '../jobs/member-job.js';
import { noCodes, type Operation } from '../jobs/operation.js';
import type { VirtualObject } from '../objects/object.js';
import { checkSigned } from '../wrapping/group-record-signature.js';
import { hasRecordedHandle } from './naming.js';
import { type OriginalObject, OriginalReader, wrapMethodOfRequest } from './original-reader.js';

/** Result of the job that makes a call's originals; `handles` is empty unless their session objects stay. */
interface Original {
  readonly objects: readonly OriginalObject[];
  readonly handles: readonly Uint8Array[];
}

/** Returns the templates of the originals' session objects: keys are made extractable, so that they can be wrapped. */
function originalTemplates(creation: CreationRequest, stays: boolean): readonly (readonly Attribute[])[] {
  return creation.requests.map((request) => {
    let template = withAttribute(withoutLate(request.asked), inSession);
    if (isSecretRequest(request) && !creation.isCopy && !stays)
      template = withAttribute(template, { type: CKA.extractable, value: Uint8Array.of(1) });
    return template;
  });
}

function originalOperation(
  group: Group,
  creation: CreationRequest,
  domain: VirtualObject | undefined,
  stays: boolean,
): Operation<Original> {
  let readers: OriginalReader[] = [];
  return {
    function: creation.function,
    objects: domain === undefined ? creation.uses : [...creation.uses, domain],
    mechanism: creation.mechanism,
    aspect: 'pure',
    kind: `original:${creation.function}:${creation.mechanism ?? ''}:${requestedSize(creation)}`,
    results: noCodes,
    job: (handles) => {
      const builder = new JobBuilder();
      const made = builder.add(creation.step(handles, originalTemplates(creation, stays)));
      readers = creation.requests.map(
        (request, index) =>
          new OriginalReader(
            group,
            request,
            builder,
            refOf(creation, index, made),
            domain === undefined ? undefined : handles.at(-1),
            creation.isRepeatable,
            stays,
            creation.isCopy ? (handles[0] ?? { step: made }) : refOf(creation, index, made),
            // A key's handle stands in its record, and new public material has no twin.
            !hasRecordedHandle(group, request) && creation.function !== 'C_GenerateKeyPair',
          ),
      );
      return { steps: builder.steps, undo: true, longWrite: true, onLoginSession: stays };
    },
    read: (reply) => ({
      objects: readers.map((reader) => reader.read(reply)),
      handles: stays ? handlesIn(reply) : [],
    }),
  };
}

function handlesIn(reply: JobReply): readonly Uint8Array[] {
  const value = reply.results[0]?.value;
  if (value instanceof Uint8Array) return [value];
  const { publicKey, privateKey } = resultOf(reply, 0, 'C_GenerateKeyPair');
  return [publicKey, privateKey];
}

/** Returns the requested modulus length as text, empty if there is none: how long the job takes depends on it. */
function requestedSize({ requests }: CreationRequest): string {
  const bits = requests.map(({ asked }) => attributeIn(asked, CKA.modulusBits)).find((value) => value !== undefined);
  return bits === undefined ? '' : Buffer.from(bits).toString('hex');
}

/**
 * Creates the objects of a call as session objects on one member, reads their attributes, proofs and wrapped form, then
 * destroys them. Shows whether the request is valid before any token object is written. May be run again on any member:
 * session objects of a lost job end with its session.
 */
export function* makeOriginal(
  group: Group,
  creation: CreationRequest,
  deadline: number,
): Task<readonly OriginalObject[]> {
  const wraps = creation.requests.some(isSecretRequest) && group.policy.replication === 'wrap';
  const { record } = group.ledger;
  const domain = wraps ? group.ledger.domain : undefined;
  const isForEach = (request: ObjectRequest): boolean =>
    isSecretRequest(request) && record !== undefined && wrapMethodOfRequest(record, request) === 'transports';
  if (wraps && creation.requests.some(isForEach)) checkSigned(group);
  const { objects } = yield* runCall(group, originalOperation(group, creation, domain, false), deadline);
  return objects;
}

/** Builds the job that makes the originals on one given member and leaves their session objects there. */
export function originalJobOn(
  group: Group,
  creation: CreationRequest,
): { readonly memberJob: MemberJob; readonly read: Operation<Original>['read'] } {
  const operation = originalOperation(group, creation, undefined, true);
  const { function: name, mechanism, objects, job } = operation;
  return { memberJob: { function: name, mechanism, objects, isSlow: true, job }, read: operation.read };
}

/** Adds to the private key of a pair the proof by its public key: signatures that the public key verifies. */
export function pairProofs(originals: readonly OriginalObject[]): readonly OriginalObject[] {
  const [publicKey, privateKey] = originals;
  if (publicKey === undefined || privateKey === undefined) return originals;
  const point = pointOf(publicKey);
  const { description, proofs } = privateKey;
  const isSigned = [CKK.ec, CKK.ecEdwards, CKK.dsa].includes(description.type) && description.signs;
  if (point === undefined || !isSigned) return originals;
  return [publicKey, { ...privateKey, proofs: new Map([...proofs, ['signature', point]]) }];
}

/** Returns the value that verifies signatures: the EC point, or the DSA public value. */
function pointOf({ description, template }: OriginalObject): Uint8Array | undefined {
  if (description.type === CKK.dsa) return attributeIn(template, CKA.value);
  return description.ecPoint.length > 0 ? description.ecPoint : undefined;
}
