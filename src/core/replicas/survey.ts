import type { Attribute } from '../../spec/attribute.js';
import { NO_MAXIMUM, type ReadAttribute } from '../../spec/calls.js';
import { CKA } from '../../spec/codes.js';
import { resultOf, step } from '../../spec/job.js';
import { FOREVER, type Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import { type Failure, isFailure, PendingWork, replyOrFailure } from '../group/job-outcome.js';
import type { Pace } from '../group/pace.js';
import { retryAfterRenewal } from '../group/repeated-reading.js';
import { type FoundReplica, Survey } from '../objects/found-object.js';
import { describe, describedTypes, hasPublicValue, isHollow, isReserved } from '../objects/identity.js';
import type { KeyRecord } from '../objects/key-note.js';
import { hex } from '../objects/note.js';
import { readRecord } from '../records/record-schema.js';
import { keyRecordTemplate } from '../records/record-template.js';
import { destroyedAt, keyRecordTypes } from '../records/tombstone.js';
import { type BulkRead, type DescribedObject, foundByDescription, identifyByValue, readMany } from './inventory.js';

/** Maximum number of objects that one job reads: short jobs let others run in between (Rule 17). */
const BATCH = 16;
/** Maximum number of objects of which one job reads the label. */
const LABEL_BATCH = 64;
/** Maximum number of listings of key records while other work replaces some. */
const MOST_LISTINGS = 8;
const nothing = new Uint8Array();

function* findAll(
  connection: Connection,
  template: readonly Attribute[],
  work: PendingWork,
): Task<readonly { readonly handle: Uint8Array }[] | Failure> {
  const steps = [step('X_Find', template, NO_MAXIMUM, [])];
  const reply = replyOrFailure(yield* connection.run({ steps }, 'survey', FOREVER, work));
  if (isFailure(reply)) return reply;
  return resultOf(reply, 0, 'X_Find').map(({ handle }) => ({ handle: new Uint8Array(handle) }));
}

/** Starts pending work on one login of the connection: real handles are kept over several jobs (Rule 13). */
function workOn(connection: Connection): PendingWork {
  const work = new PendingWork();
  work.epoch = connection.epoch;
  return work;
}

/**
 * Reads the identities of the applications' token objects on a member. With a pace it gives way to applications, and
 * takes longer.
 */
export function* surveyMember(connection: Connection, pace?: Pace): Task<Survey | Failure> {
  return yield* retryAfterRenewal(connection, () => readObjects(connection, pace));
}

function* readObjects(connection: Connection, pace: Pace | undefined): Task<Survey | Failure> {
  const { epoch } = connection;
  const work = workOn(connection);
  const bulkRead: BulkRead = { kind: 'survey', deadline: FOREVER, work, pace, batch: BATCH };
  const all = yield* findAll(connection, [], work);
  if (isFailure(all)) return all;
  const labels = yield* readMany(connection, all, [CKA.label], { ...bulkRead, batch: LABEL_BATCH });
  if (isFailure(labels)) return labels;
  const others = labels.filter(([, [label]]) => !isReserved(label?.value ?? nothing)).map(([object]) => object);
  const read = yield* readMany(connection, others, describedTypes, bulkRead);
  if (isFailure(read)) return read;
  const objects: FoundReplica[] = [];
  const valued: DescribedObject[] = [];
  for (const [{ handle }, attributes] of read) {
    const description = describe(attributes);
    if (isHollow(description) || !description.token || isReserved(description.label)) continue;
    if (hasPublicValue(description)) valued.push({ handle, description });
    else objects.push(foundByDescription({ handle, description }));
  }
  const identified = yield* identifyByValue(connection, valued, bulkRead);
  return isFailure(identified) ? identified : new Survey([...objects, ...identified], epoch);
}

/** Key records on a member, by the keys' virtual handles. */
export interface KeyRecordSurvey {
  /** Records of keys that were not destroyed; while a record is replaced, the newest. */
  readonly live: ReadonlyMap<number, KeyRecord>;
  /** Tombstones: the records of destroyed keys; their time is that of the destroy. */
  readonly gone: ReadonlyMap<number, KeyRecord>;
  /** Number of values that do not have the form of records (Rule 18). */
  readonly invalid: number;
}

/** Reads the key records on a member, without tombstones. */
export function* surveyKeyRecords(connection: Connection, pace?: Pace): Task<ReadonlyMap<number, KeyRecord> | Failure> {
  const records = yield* surveyAllKeyRecords(connection, pace);
  return isFailure(records) ? records : records.live;
}

/** Reads the key records and the tombstones on a member. */
export function* surveyAllKeyRecords(connection: Connection, pace?: Pace): Task<KeyRecordSurvey | Failure> {
  return yield* retryAfterRenewal(connection, () => readKeyRecords(connection, pace));
}

function* readKeyRecords(connection: Connection, pace: Pace | undefined): Task<KeyRecordSurvey | Failure> {
  const work = workOn(connection);
  const bulkRead: BulkRead = { kind: 'survey', deadline: FOREVER, work, pace, batch: BATCH };
  const read = new Map<string, readonly ReadAttribute[]>();
  for (let tries = 1; tries <= MOST_LISTINGS; tries += 1) {
    const found = yield* findAll(connection, keyRecordTemplate(), work);
    if (isFailure(found)) return found;
    const unread = found.filter(({ handle }) => !read.has(hex(handle)));
    const more = yield* readMany(connection, unread, keyRecordTypes, bulkRead);
    if (isFailure(more)) return more;
    for (const [{ handle }, attributes] of more) read.set(hex(handle), attributes);
    // A record that went meanwhile may have been replaced by a new one.
    if (more.length === unread.length) break;
  }
  const live = new Map<number, KeyRecord>();
  const gone = new Map<number, KeyRecord>();
  let invalid = 0;
  for (const [value, label] of read.values()) {
    const record = readRecord(value?.value ?? nothing);
    if (record === 'invalid') invalid += 1;
    if (typeof record !== 'object' || record.kind !== 'key') continue;
    const goneAt = destroyedAt(label?.value);
    const records = goneAt === undefined ? live : gone;
    const known = records.get(record.note.handle);
    const time = goneAt ?? record.time;
    if (known === undefined || known.time < time) records.set(record.note.handle, { ...record, time });
  }
  return { live, gone, invalid };
}
