import type { Attribute } from '../../spec/attribute.js';
import type { FoundObject } from '../../spec/calls.js';
import { CKA } from '../../spec/codes.js';
import { type Job, resultOf, type Step, step } from '../../spec/job.js';
import type { SecretStore } from '../base/port.js';
import type { Task } from '../base/task.js';
import { isComing } from '../group/coming.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { isFailure, replyOrFailure } from '../group/job-outcome.js';
import type { PinPair } from '../group/pins.js';
import { JobBuilder } from '../jobs/job-builder.js';
import { RESERVED_LABEL } from '../objects/identity.js';
import { findNotes, noteIn } from '../records/ledger.js';
import { FORMAT, type PinNote } from '../records/record.js';
import { anyText } from '../records/record-schema.js';
import { dataClass, PIN_NOTE_LABEL, recordAttributes } from '../records/record-template.js';
import { fields, integer, oneOf } from '../records/shape.js';
import { outcomeOf } from './library.js';

/** Maximum number of PIN records read from a token; normally there is one, and two while one is replaced. */
const MOST_FOUND = 16;
/** Maximum length of a PIN in a record (bytes); the configuration's limit is lower. */
const LONGEST_PIN = 4096;
/** Maximum length of the head of a PIN record (bytes). */
const MOST_HEAD = 65_536;
/** Byte code of the line feed between head and PINs. */
const LINE_END = 0x0a;

const APPLICATION = 'pkcs11-ha';
/** CKA_APPLICATION of PIN records; a search for other records does not read the PINs. */
const PAIR_APPLICATION = 'pkcs11-ha pin';
const no = Uint8Array.of(0);

/** Finds the private records that hold the PINs of a change. */
export const pairTemplate: readonly Attribute[] = [
  ...recordAttributes,
  { type: CKA.application, value: Buffer.from(PAIR_APPLICATION) },
];

/** Check of the head of a PIN record: the operation, and the lengths of both PINs (bytes). */
const pairHead = fields({
  version: oneOf(FORMAT),
  operation: anyText,
  former: integer(1, LONGEST_PIN),
  next: integer(1, LONGEST_PIN),
});

function pairLabel(operation: string): string {
  return `${RESERVED_LABEL}pin ${operation}`;
}

/** Step that reads the labels of the PIN records, without the PINs. */
export const findPairLabels: Step = step('X_Find', pairTemplate, MOST_FOUND, [CKA.label]);
const findPairs: Step = step('X_Find', pairTemplate, MOST_FOUND, [CKA.value]);

function writeNote(builder: JobBuilder, note: PinNote): void {
  const made = builder.add(
    step('C_CreateObject', [
      dataClass,
      { type: CKA.token, value: no },
      { type: CKA.private, value: no },
      { type: CKA.label, value: Buffer.from(PIN_NOTE_LABEL) },
      { type: CKA.application, value: Buffer.from(APPLICATION) },
      { type: CKA.value, value: Buffer.from(JSON.stringify({ version: FORMAT, ...note })) },
    ]),
  );
  builder.persist({ step: made });
}

/**
 * Returns the job that writes a PIN note and, if there is a `pair`, the record of its PINs. The PINs end the value, and
 * the value ends the job: the channel appends them from guarded memory. `joined` holds both PINs.
 */
export function writingJob(note: PinNote, pair: PinPair | undefined, joined: Job['secret']): Job {
  const builder = new JobBuilder();
  writeNote(builder, note);
  if (pair === undefined || joined === undefined) return builder;
  const { operation, former, next } = pair;
  const head = JSON.stringify({ version: FORMAT, kind: 'pin', operation, former: former.length, next: next.length });
  builder.add(
    step('C_CreateObject', [
      ...recordAttributes,
      { type: CKA.label, value: Buffer.from(pairLabel(operation)) },
      { type: CKA.application, value: Buffer.from(PAIR_APPLICATION) },
      { type: CKA.value, value: Buffer.from(`${head}\n`), secretLength: joined.length },
    ]),
  );
  return { steps: builder.steps, secret: joined };
}

/** Returns the operation of a PIN record, from its label. */
export function operationIn({ attributes: [label] }: FoundObject): string {
  return Buffer.from(label?.value ?? new Uint8Array())
    .toString('utf8')
    .slice(pairLabel('').length);
}

/** Reads the PINs in a record's value and wipes the value; undefined if the record is incomplete. */
function pairIn({ attributes: [value] }: FoundObject, store: SecretStore): PinPair | undefined {
  const bytes = value?.value ?? new Uint8Array();
  try {
    const end = bytes.indexOf(LINE_END);
    if (end > MOST_HEAD) return undefined;
    const head: unknown = JSON.parse(Buffer.from(bytes.subarray(0, Math.max(0, end))).toString('utf8'));
    const { operation, former, next } = pairHead(head);
    const secrets = bytes.subarray(end + 1);
    if (secrets.length !== former + next) return undefined;
    return { operation, former: store.make(secrets.subarray(0, former)), next: store.make(secrets.subarray(former)) };
  } catch {
    return undefined;
  } finally {
    bytes.fill(0);
  }
}

/** Member by its name, with a connection that has logged in. */
interface Located {
  readonly name: string;
  readonly connection: Connection;
}

function* find(
  connection: Connection,
  finding: Step,
  deadline: number,
  needsLogin: boolean = true,
): Task<readonly FoundObject[] | undefined> {
  const job: Job = { steps: [finding], secretReply: finding === findPairs };
  if (needsLogin && !connection.hasLogin) return undefined;
  const outcome = yield* outcomeOf(connection, job, deadline);
  const reply = outcome === undefined ? undefined : replyOrFailure(outcome);
  return reply === undefined || isFailure(reply) ? undefined : resultOf(reply, 0, 'X_Find');
}

/** Reads the PIN notes on a token, for which no login is needed; undefined if the token could not be asked. */
export function* readNotes(connection: Connection, deadline: number): Task<readonly PinNote[] | undefined> {
  const found = yield* find(connection, findNotes, deadline, false);
  return found?.map(noteIn).filter((note) => note !== undefined);
}

/**
 * Returns the notes on a token with a login that have a private PIN record there. Anybody can write a note (Rule 18): one
 * that has stood without a record for a while is removed and reported. Its writer may just be about to write the record.
 */
function* provenNotes(
  group: Group,
  { name, connection }: Located,
  deadline: number,
): Task<readonly PinNote[] | undefined> {
  const found = yield* find(connection, findNotes, deadline);
  const records = found === undefined ? undefined : yield* find(connection, findPairLabels, deadline);
  if (found === undefined || records === undefined) return undefined;
  const operations = new Set(records.map(operationIn));
  const proven: PinNote[] = [];
  for (const object of found) {
    const note = noteIn(object);
    if (note !== undefined && operations.has(note.operation)) proven.push(note);
    else if (group.pins.isLeftOver(`${name} ${note?.operation} ${note?.time}`, group.port.now())) {
      const removal = { steps: [step('C_DestroyObject', new Uint8Array(object.handle))] };
      if (isFailure(replyOrFailure(yield* connection.run(removal, 'find', deadline)))) continue;
      group.emit({ type: 'records', member: name, problem: `a PIN note on ${name} had no PIN record and was removed` });
    }
  }
  return proven;
}

/** Takes in the notes of a PIN change on a token with a login, and its PINs if they are not known yet. */
export function* learnFrom(group: Group, located: Located, deadline: number): Task<readonly PinNote[] | undefined> {
  const { pins, port } = group;
  const { connection } = located;
  const notes = yield* provenNotes(group, located, deadline);
  if (notes === undefined) return undefined;
  pins.notice(notes);
  const { note } = pins;
  if (note === undefined || pins.pairOfNote !== undefined) return notes;
  for (const object of (yield* find(connection, findPairs, deadline)) ?? []) {
    const pair = pairIn(object, port.secrets);
    if (pair === undefined) continue;
    const former = pins.intern(pair.former);
    const next = pins.intern(pair.next);
    if (pair.operation === note.operation) pins.learn({ ...pair, former, next });
    else pins.wipeUnless([former, next]);
  }
  return notes;
}

/** Takes in the notes from all serving members; if none has a note and no member is coming, the change is over. */
export function* learnFromAll(group: Group, deadline: number): Task<void> {
  // A suspect is not asked, and may have a note too.
  let isOver = !group.members.some(isComing) && group.members.some(({ isServing }) => isServing);
  for (const { name, connection, isServing, login } of group.members) {
    if (connection === undefined || connection.end !== undefined || !isServing || login.pin === undefined) continue;
    const notes = yield* learnFrom(group, { name, connection }, deadline);
    if (notes === undefined || notes.length > 0) isOver = false;
  }
  if (isOver) group.pins.forget();
}
