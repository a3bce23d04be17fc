import type { Attribute } from '../../spec/attribute.js';
import type { ReadAttribute } from '../../spec/calls.js';
import { CKR } from '../../spec/codes.js';
import { type Job, type JobReply, resultOf, step } from '../../spec/job.js';
import { CKR_OK } from '../../spec/verdict.js';
import { sameBytes } from '../base/bytes.js';
import { FOREVER, type Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import { type Failure, failureOf, isFailure, type PendingWork, replyOrFailure } from '../group/job-outcome.js';
import type { Pace } from '../group/pace.js';
import type { FoundReplica } from '../objects/found-object.js';
import {
  type Description,
  describe,
  describedTypes,
  hasPublicValue,
  identityOf,
  isHollow,
  isReserved,
  publicValueTypes,
  templateOf,
} from '../objects/identity.js';
import type { VirtualObject } from '../objects/object.js';

type Inventory = { readonly kind: 'objects'; readonly objects: readonly FoundReplica[] } | Failure;

/** Object on a member, before its public value is read. */
export interface DescribedObject {
  readonly handle: Uint8Array;
  readonly description: Description;
}

/** Manner in which attributes of many objects are read. */
export interface BulkRead {
  /** Kind of the jobs; see Ticket. */
  readonly kind: string;
  readonly deadline: number;
  readonly work: PendingWork | undefined;
  /** Pace of work in the background; undefined for work without rests. */
  readonly pace?: Pace | undefined;
  /** Maximum number of objects that one job reads. */
  readonly batch: number;
}

const nothing = new Uint8Array();
/** Maximum number of objects whose public value one job reads. */
const VALUES_PER_JOB = 32;
/** Maximum number of objects of one name that are read from a token. */
export const MOST_TWINS = 64;

/** Returns the job that finds objects and reads `describedTypes`; it never reads CKA_VALUE of keys. */
export function findJob(template: readonly Attribute[], most: number): Job {
  return { steps: [step('X_Find', template, most, describedTypes)] };
}

/** Finds objects on a member and reads their identities. */
export function* readInventory(
  connection: Connection,
  template: readonly Attribute[],
  most: number,
  deadline: number,
  work?: PendingWork,
): Task<Inventory> {
  const reply = replyOrFailure(yield* connection.run(findJob(template, most), 'find', deadline, work));
  return isFailure(reply) ? reply : yield* completeInventory(connection, reply, deadline, work);
}

/** Takes the identities from the reply to `findJob`; runs further jobs for objects that a public value identifies. */
export function* completeInventory(
  connection: Connection,
  reply: JobReply,
  deadline: number,
  work?: PendingWork,
): Task<Inventory> {
  const objects: FoundReplica[] = [];
  const valued: DescribedObject[] = [];
  for (const { handle, attributes } of resultOf(reply, 0, 'X_Find')) {
    const description = describe(attributes);
    if (isHollow(description)) continue;
    // Values of the group's own objects are not needed for this, and there may be thousands.
    if (hasPublicValue(description) && !isReserved(description.label)) valued.push({ handle, description });
    else objects.push(foundByDescription({ handle, description }));
  }
  const read = { kind: 'find:values', deadline, work, batch: VALUES_PER_JOB };
  const others = yield* identifyByValue(connection, valued, read);
  return isFailure(others) ? others : { kind: 'objects', objects: [...objects, ...others] };
}

/** Returns an object whose description alone identifies it. */
export function foundByDescription({ handle, description }: DescribedObject): FoundReplica {
  const identity = identityOf(description);
  return { handle, description, identity, valueDigest: nothing, publicPoint: description.ecPoint };
}

/** Reads the public values of objects that they identify; leaves out objects that are gone. */
export function* identifyByValue(
  connection: Connection,
  objects: readonly DescribedObject[],
  read: BulkRead,
): Task<readonly FoundReplica[] | Failure> {
  const values = yield* readMany(connection, objects, publicValueTypes, read);
  if (isFailure(values)) return values;
  return values.map(([{ handle, description }, [attribute]]) => {
    const value = attribute?.value ?? nothing;
    const valueDigest = connection.port.sha256(value);
    const identity = identityOf(description, valueDigest);
    return { handle, description, identity, valueDigest, publicPoint: new Uint8Array(value) };
  });
}

/** Reads attributes of many objects, a batch in each job; leaves out objects that are gone. */
export function* readMany<T extends { readonly handle: Uint8Array }>(
  connection: Connection,
  objects: readonly T[],
  types: readonly number[],
  { kind, deadline, work, pace, batch }: BulkRead,
): Task<readonly (readonly [T, readonly ReadAttribute[]])[] | Failure> {
  const all: (readonly [T, readonly ReadAttribute[]])[] = [];
  const left = [...objects];
  while (left.length > 0) {
    const steps = left.slice(0, batch).map(({ handle }) => step('C_GetAttributeValue', handle, types));
    const outcome = yield* connection.run({ steps }, kind, deadline, work);
    if (outcome.kind !== 'reply') return failureOf(outcome) ?? { kind: 'withdrawn' };
    if (outcome.reply.results.length === 0) return { kind: 'withdrawn' };
    // A job ends at the first step that fails; the next job reads the rest.
    for (const [index, { code, call }] of outcome.reply.results.entries()) {
      const object = left.shift();
      if (object === undefined || code === CKR.objectHandleInvalid) continue;
      if (code !== CKR_OK) return { kind: 'code', function: call, code };
      const read = resultOf(outcome.reply, index, 'C_GetAttributeValue');
      all.push([object, read.map(({ presence, value }) => ({ presence, value: Buffer.from(value) }))]);
    }
    if (pace !== undefined) yield* pace.rest();
  }
  return all;
}

/** Reads the identities of objects anew; leaves out objects that are gone. */
export function* readAgain(
  connection: Connection,
  objects: readonly FoundReplica[],
  deadline: number,
  work: PendingWork,
): Task<readonly FoundReplica[] | Failure> {
  const read = { kind: 'find', deadline, work, batch: VALUES_PER_JOB };
  const described = yield* readMany(connection, objects, describedTypes, read);
  if (isFailure(described)) return described;
  const found = described.map(([{ handle }, attributes]) => ({ handle, description: describe(attributes) }));
  const whole = found.filter(({ description }) => !isHollow(description));
  const valued = whole.filter(({ description }) => hasPublicValue(description));
  const others = yield* identifyByValue(connection, valued, { ...read, kind: 'find:values' });
  if (isFailure(others)) return others;
  return [...whole.filter((each) => !valued.includes(each)).map(foundByDescription), ...others];
}

type Candidates = { readonly kind: 'candidates'; readonly list: readonly FoundReplica[] } | Failure;

/** Finds the objects on a member that have an object's identity. */
export function* candidatesOn(connection: Connection, object: VirtualObject, work: PendingWork): Task<Candidates> {
  // Surveys leave out the group's own objects.
  const surveyed = isReserved(object.description.label) ? undefined : connection.surveyed(object.identity);
  if (surveyed !== undefined) return { kind: 'candidates', list: surveyed };
  const inventory = yield* readInventory(connection, templateOf(object.description), MOST_TWINS, FOREVER, work);
  if (inventory.kind !== 'objects') return inventory;
  return {
    kind: 'candidates',
    list: inventory.objects.filter(({ identity }) => sameBytes(identity, object.identity)),
  };
}
