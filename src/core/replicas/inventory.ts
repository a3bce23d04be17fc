import type { Attribute } from '../../spec/attribute.js';
import { CKR } from '../../spec/codes.js';
import { type Job, type JobReply, resultOf, step } from '../../spec/job.js';
import { CKR_OK } from '../../spec/verdict.js';
import { sameBytes } from '../base/bytes.js';
import { FOREVER, type Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import { type Failure, failureOf, type PendingWork } from '../group/job-outcome.js';
import type { FoundReplica } from '../objects/found-object.js';
import {
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

export type Inventory = { readonly kind: 'objects'; readonly objects: readonly FoundReplica[] } | Failure;

const nothing = new Uint8Array();
const VALUES_PER_JOB = 32;
/** More objects of one name on one token are not looked through. */
export const MOST_TWINS = 64;

/** The job that finds objects and reads what identifies them. CKA_VALUE of keys is never read. */
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
  const outcome = yield* connection.run(findJob(template, most), 'find', deadline, work);
  const failure = failureOf(outcome);
  if (failure !== undefined || outcome.kind !== 'reply') return failure ?? { kind: 'withdrawn' };
  return yield* completeInventory(connection, outcome.reply, deadline, work);
}

/** The identities from the reply to `findJob`; a few jobs more for objects that a public value identifies. */
export function* completeInventory(
  connection: Connection,
  reply: JobReply,
  deadline: number,
  work?: PendingWork,
): Task<Inventory> {
  const found = resultOf(reply, 0, 'X_Find').map(({ handle, attributes }) => ({
    handle,
    description: describe(attributes),
  }));
  const objects: FoundReplica[] = [];
  const valued: typeof found = [];
  for (const entry of found) {
    const { description } = entry;
    if (isHollow(description)) continue;
    // Of the group's own objects nobody wants to know the values here: there may be thousands.
    if (hasPublicValue(description) && !isReserved(description.label)) valued.push(entry);
    else
      objects.push({
        ...entry,
        identity: identityOf(description),
        valueDigest: nothing,
        publicPoint: description.ecPoint,
      });
  }
  while (valued.length > 0) {
    const batch = valued.slice(0, VALUES_PER_JOB);
    const steps = batch.map(({ handle }) => step('C_GetAttributeValue', handle, publicValueTypes));
    const values = yield* connection.run({ steps }, 'find:values', deadline, work);
    if (values.kind !== 'reply') return values;
    for (const [index, { code, call }] of values.reply.results.entries()) {
      const entry = valued.shift();
      if (entry === undefined) break;
      if (code === CKR.objectHandleInvalid) continue;
      if (code !== CKR_OK) return { kind: 'code', function: call, code };
      const value = resultOf(values.reply, index, 'C_GetAttributeValue')[0]?.value ?? new Uint8Array();
      const { port } = connection;
      const valueDigest = port.sha256(value);
      const identity = identityOf(entry.description, valueDigest);
      objects.push({ ...entry, identity, valueDigest, publicPoint: new Uint8Array(value) });
    }
    if (values.reply.results.length === 0) return { kind: 'withdrawn' };
  }
  return { kind: 'objects', objects };
}

export type Candidates = { readonly kind: 'candidates'; readonly list: readonly FoundReplica[] } | Failure;

/** What a member has under an object's identity. */
export function* candidatesOn(connection: Connection, object: VirtualObject, work: PendingWork): Task<Candidates> {
  // Surveys leave out what is the group's own.
  const surveyed = isReserved(object.description.label) ? undefined : connection.surveyed(object.identity);
  if (surveyed !== undefined) return { kind: 'candidates', list: surveyed };
  const inventory = yield* readInventory(connection, templateOf(object.description), MOST_TWINS, FOREVER, work);
  if (inventory.kind !== 'objects') return inventory;
  return {
    kind: 'candidates',
    list: inventory.objects.filter(({ identity }) => sameBytes(identity, object.identity)),
  };
}
