import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import type { FoundObject } from '../../spec/calls.js';
import { CKA, CKO } from '../../spec/codes.js';
import { type Job, type Step, step } from '../../spec/job.js';
import type { SecretStore } from '../base/port.js';
import type { Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { failureOf } from '../group/job-outcome.js';
import type { PinPair } from '../group/pins.js';
import { JobBuilder } from '../jobs/job-builder.js';
import { RESERVED_LABEL } from '../objects/identity.js';
import { FORMAT, type PinNote, readRecord } from '../records/record.js';

/** More of them are never there, but for the moment when one takes another's place. */
const MOST = 16;
const LINE_END = 0x0a;

const APPLICATION = 'pkcs11-ha';
/** Of its own, so that the PINs are only read by who looks for them. */
const PAIR_APPLICATION = 'pkcs11-ha pin';
const NOTE_LABEL = `${RESERVED_LABEL}pin-change`;

const dataClass: Attribute = { type: CKA.class, value: ulongBytes(CKO.data) };
const yes = Uint8Array.of(1);
const no = Uint8Array.of(0);

/** Finds the notes that say that the PIN is being changed; nobody need be logged in. */
const noteTemplate: readonly Attribute[] = [dataClass, { type: CKA.label, value: Buffer.from(NOTE_LABEL) }];

/** Finds the private records of the PINs of a change. */
export const pairTemplate: readonly Attribute[] = [
  dataClass,
  { type: CKA.application, value: Buffer.from(PAIR_APPLICATION) },
];

function pairLabel(operation: string): string {
  return `${RESERVED_LABEL}pin ${operation}`;
}

/** Reads the notes. */
export const findNotes: Step = step('X_Find', noteTemplate, MOST, [CKA.value]);
/** Reads which records of PINs there are, without the PINs. */
export const findPairLabels: Step = step('X_Find', pairTemplate, MOST, [CKA.label]);
const findPairs: Step = step('X_Find', pairTemplate, MOST, [CKA.value]);

function writeNote(builder: JobBuilder, note: PinNote): void {
  const made = builder.add(
    step('C_CreateObject', [
      dataClass,
      { type: CKA.token, value: no },
      { type: CKA.private, value: no },
      { type: CKA.label, value: Buffer.from(NOTE_LABEL) },
      { type: CKA.application, value: Buffer.from(APPLICATION) },
      { type: CKA.value, value: Buffer.from(JSON.stringify({ version: FORMAT, ...note })) },
    ]),
  );
  builder.persist({ step: made });
}

/**
 * The job that writes a note, and with it the PINs where there is a `pair`. The PINs are the end of the value, and
 * that the end of the job: the channel appends them from guarded memory. `joined` are both of them.
 */
export function writingJob(note: PinNote, pair: PinPair | undefined, joined: Job['secret']): Job {
  const builder = new JobBuilder();
  writeNote(builder, note);
  if (pair === undefined || joined === undefined) return builder;
  const { operation, former, next } = pair;
  const head = JSON.stringify({ version: FORMAT, kind: 'pin', operation, former: former.length, next: next.length });
  builder.add(
    step('C_CreateObject', [
      dataClass,
      { type: CKA.token, value: yes },
      { type: CKA.private, value: yes },
      { type: CKA.label, value: Buffer.from(pairLabel(operation)) },
      { type: CKA.application, value: Buffer.from(PAIR_APPLICATION) },
      { type: CKA.value, value: Buffer.from(`${head}\n`), secretLength: joined.length },
    ]),
  );
  return { steps: builder.steps, secret: joined };
}

export function noteIn({ attributes: [value] }: FoundObject): PinNote | undefined {
  const record = readRecord(value?.value ?? new Uint8Array());
  return typeof record === 'object' && record.kind === 'pin' ? record : undefined;
}

/** The operation of a record of PINs, by its label. */
export function operationIn({ attributes: [label] }: FoundObject): string {
  return Buffer.from(label?.value ?? new Uint8Array())
    .toString('utf8')
    .slice(pairLabel('').length);
}

/** The PINs in a record's value, which is wiped; undefined where not all of it was written. */
function pairIn({ attributes: [value] }: FoundObject, store: SecretStore): PinPair | undefined {
  const bytes = value?.value ?? new Uint8Array();
  try {
    const end = bytes.indexOf(LINE_END);
    const head = JSON.parse(Buffer.from(bytes.subarray(0, Math.max(0, end))).toString('utf8')) as Record<
      string,
      unknown
    >;
    const { version, operation, former, next } = head;
    if (version !== FORMAT || typeof operation !== 'string') return undefined;
    if (typeof former !== 'number' || typeof next !== 'number') return undefined;
    const secrets = bytes.subarray(end + 1);
    if (former < 1 || next < 1 || secrets.length !== former + next) return undefined;
    return { operation, former: store.make(secrets.subarray(0, former)), next: store.make(secrets.subarray(former)) };
  } catch {
    return undefined;
  } finally {
    bytes.fill(0);
  }
}

function* find(connection: Connection, steps: readonly Step[], deadline: number): Task<FoundObject[][] | undefined> {
  const outcome = yield* connection.run({ steps }, 'find', deadline);
  if (outcome.kind !== 'reply' || failureOf(outcome) !== undefined) return undefined;
  return outcome.reply.results.map(({ value }) => value as FoundObject[]);
}

/** The notes on a token, to be read by who is not logged in too; undefined when it cannot be asked. */
export function* readNotes(connection: Connection, deadline: number): Task<readonly PinNote[] | undefined> {
  const found = yield* find(connection, [findNotes], deadline);
  return found?.[0]?.map(noteIn).filter((note) => note !== undefined);
}

/** Takes in what a token on which there is a login says of a change: the note, and its PINs where they are not known. */
export function* learnFrom(
  { pins, port }: Group,
  connection: Connection,
  deadline: number,
): Task<readonly PinNote[] | undefined> {
  const notes = yield* readNotes(connection, deadline);
  if (notes === undefined) return undefined;
  pins.notice(notes);
  const { note } = pins;
  if (note === undefined || pins.pairOfNote !== undefined) return notes;
  const [found = []] = (yield* find(connection, [findPairs], deadline)) ?? [];
  for (const object of found) {
    const pair = pairIn(object, port.secrets);
    if (pair === undefined) continue;
    const former = pins.intern(pair.former);
    const next = pins.intern(pair.next);
    if (pair.operation === note.operation) pins.learn({ ...pair, former, next });
    else pins.wipeUnless([former, next]);
  }
  return notes;
}

/** The same from all members that serve. When none of them says anything of a change, there is none any more. */
export function* learnFromAll(group: Group, deadline: number): Task<void> {
  const isComing = group.members.some(({ state }) => state.name === 'joining' || state.name === 'recovering');
  let isOver = !isComing && group.members.some(({ isServing }) => isServing);
  for (const { connection, isServing, login } of group.members) {
    if (connection === undefined || connection.end !== undefined || !isServing || login.pin === undefined) continue;
    const notes = yield* learnFrom(group, connection, deadline);
    if (notes === undefined || notes.length > 0) isOver = false;
  }
  if (isOver) group.pins.forget();
}
