import type { Attribute } from '../../spec/attribute.js';
import type { ReadAttribute } from '../../spec/calls.js';
import { CKA, CKR } from '../../spec/codes.js';
import { resultOf, step } from '../../spec/job.js';
import { CKR_OK } from '../../spec/verdict.js';
import { FOREVER, type Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import { type Failure, failureOf, isFailure, PendingWork } from '../group/job-outcome.js';
import type { Pace } from '../group/pace.js';
import { type FoundReplica, Survey } from '../objects/found-object.js';
import {
  describe,
  describedTypes,
  hasPublicValue,
  identityOf,
  isHollow,
  isReserved,
  publicValueTypes,
} from '../objects/identity.js';
import type { KeyRecord } from '../objects/key-note.js';
import { keyRecordTemplate, readRecord, recordTypes } from '../records/record.js';

/** So many objects are read in one job: none takes long, and others get their turn in between (Rule 17). */
const BATCH = 16;
/** And so many where only the label is. */
const LABEL_BATCH = 64;
const MOST_OBJECTS = 0x7fff_ffff;
const nothing = new Uint8Array();
type ReadObject = readonly [handle: Uint8Array, read: readonly ReadAttribute[]];

function* handlesOf(
  connection: Connection,
  template: readonly Attribute[],
  work: PendingWork,
): Task<readonly Uint8Array[] | Failure> {
  const steps = [step('X_Find', template, MOST_OBJECTS, [])];
  const outcome = yield* connection.run({ steps }, 'survey', FOREVER, work);
  const failure = failureOf(outcome);
  if (failure !== undefined || outcome.kind !== 'reply') return failure ?? { kind: 'withdrawn' };
  return resultOf(outcome.reply, 0, 'X_Find').map(({ handle }) => new Uint8Array(handle));
}

/** Reads attributes of many objects, a few at a time; an object that has gone meanwhile is left out. */
function* readMany(
  connection: Connection,
  handles: readonly Uint8Array[],
  types: readonly number[],
  work: PendingWork,
  pace: Pace | undefined,
  batch: number = BATCH,
): Task<readonly ReadObject[] | Failure> {
  const all: ReadObject[] = [];
  const left = [...handles];
  while (left.length > 0) {
    const steps = left.slice(0, batch).map((handle) => step('C_GetAttributeValue', handle, types));
    const outcome = yield* connection.run({ steps }, 'survey', FOREVER, work);
    if (outcome.kind !== 'reply') return failureOf(outcome) ?? { kind: 'withdrawn' };
    if (outcome.reply.results.length === 0) return { kind: 'withdrawn' };
    // A job ends at the first step that fails; the rest is asked for again.
    for (const [index, { code, call }] of outcome.reply.results.entries()) {
      const handle = left.shift();
      if (handle === undefined || code === CKR.objectHandleInvalid) continue;
      if (code !== CKR_OK) return { kind: 'code', function: call, code };
      const read = resultOf(outcome.reply, index, 'C_GetAttributeValue');
      all.push([handle, read.map(({ presence, value }) => ({ presence, value: Buffer.from(value) }))]);
    }
    if (pace !== undefined) yield* pace.rest();
  }
  return all;
}

/**
 * Reads what identifies the token objects on a member; those of the group itself are left out. With a pace it gives
 * way to applications, and takes longer.
 */
export function* surveyMember(connection: Connection, pace?: Pace): Task<Survey | Failure> {
  return yield* connection.retryAfterRenewal(() => readObjects(connection, pace));
}

function* readObjects(connection: Connection, pace: Pace | undefined): Task<Survey | Failure> {
  const work = new PendingWork();
  work.epoch = connection.epoch;
  const handles = yield* handlesOf(connection, [], work);
  if (isFailure(handles)) return handles;
  const labels = yield* readMany(connection, handles, [CKA.label], work, pace, LABEL_BATCH);
  if (isFailure(labels)) return labels;
  const others = labels.filter(([, [label]]) => !isReserved(label?.value ?? nothing)).map(([handle]) => handle);
  const read = yield* readMany(connection, others, describedTypes, work, pace);
  if (isFailure(read)) return read;
  const objects: FoundReplica[] = [];
  const valued: { readonly handle: Uint8Array; readonly description: FoundReplica['description'] }[] = [];
  for (const [handle, attributes] of read) {
    const description = describe(attributes);
    if (isHollow(description) || !description.token || isReserved(description.label)) continue;
    if (hasPublicValue(description)) valued.push({ handle, description });
    else {
      const identity = identityOf(description);
      objects.push({ handle, description, identity, valueDigest: nothing, publicPoint: description.ecPoint });
    }
  }
  const values = yield* readMany(
    connection,
    valued.map(({ handle }) => handle),
    publicValueTypes,
    work,
    pace,
  );
  if (isFailure(values)) return values;
  const publicValues = new Map(values.map(([handle, [value]]) => [handle, value?.value ?? nothing]));
  for (const { handle, description } of valued) {
    const value = publicValues.get(handle);
    if (value === undefined) continue;
    const valueDigest = connection.port.sha256(value);
    const identity = identityOf(description, valueDigest);
    objects.push({ handle, description, identity, valueDigest, publicPoint: new Uint8Array(value) });
  }
  return new Survey(objects, work.epoch);
}

/** The records of all keys on a member, by the keys' handles; the newest, where one is just being replaced. */
export function* surveyKeyRecords(connection: Connection, pace?: Pace): Task<ReadonlyMap<number, KeyRecord> | Failure> {
  return yield* connection.retryAfterRenewal(() => readKeyRecords(connection, pace));
}

function* readKeyRecords(
  connection: Connection,
  pace: Pace | undefined,
): Task<ReadonlyMap<number, KeyRecord> | Failure> {
  const work = new PendingWork();
  work.epoch = connection.epoch;
  const handles = yield* handlesOf(connection, keyRecordTemplate(), work);
  if (isFailure(handles)) return handles;
  const read = yield* readMany(connection, handles, recordTypes, work, pace);
  if (isFailure(read)) return read;
  const records = new Map<number, KeyRecord>();
  for (const [, [value]] of read) {
    const record = readRecord(value?.value ?? nothing);
    if (typeof record !== 'object' || record.kind !== 'key') continue;
    const known = records.get(record.note.handle);
    if (known === undefined || known.time < record.time) records.set(record.note.handle, record);
  }
  return records;
}
