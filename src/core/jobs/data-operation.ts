import { aspectOf } from '../../spec/aspects.js';
import type { CallName, CipherOutput } from '../../spec/calls.js';
import { endOf, type JobReply, type Step, step } from '../../spec/job.js';
import { type Mechanism, takeReturned } from '../../spec/mechanism.js';
import type { Member } from '../group/member.js';
import type { VirtualObject } from '../objects/object.js';
import {
  kindOfOperation,
  type Location,
  labelFor,
  noCodes,
  type Operation,
  verificationFailures,
} from './operation.js';
import { type DataKind, functionsOf } from './operation-kind.js';

/** What an Init says. */
export interface Beginning {
  readonly kind: DataKind;
  readonly mechanism: Mechanism;
  /** None for digests. */
  readonly key: VirtualObject | undefined;
  /** The member whose own slot it is begun on. */
  readonly only?: Member | undefined;
}

/** Data of a multi-part operation; of digests also keys (C_DigestKey). */
export type Part = Uint8Array | VirtualObject;

/** How an operation ended: CKR_OK, or of a verification another code that is its result. */
export interface DataResult {
  readonly code: number;
  readonly output: Buffer;
}

const NOTHING = Buffer.alloc(0);
const NO_HANDLE = new Uint8Array(8);

function isData(part: Part): part is Uint8Array {
  return part instanceof Uint8Array;
}

/** The output of a step, and what the token wrote to the mechanism's parameter on the way. */
export function outputIn(reply: JobReply, index: number, mechanism: Mechanism): Buffer {
  const value = reply.results[index]?.value;
  if (value === undefined) return NOTHING;
  if (Buffer.isBuffer(value)) return value;
  const { output, returned } = value as CipherOutput;
  takeReturned(mechanism, returned);
  return output;
}

/** Steps are made of calls that are only known by their kind; their shapes are those of functionsOf's rows. */
function stepOf(call: CallName, ...args: readonly unknown[]): Step {
  return { call, arguments: args };
}

export function initStep({ kind, mechanism }: Beginning, handle: Uint8Array | undefined): Step {
  const { init } = functionsOf[kind];
  return kind === 'digest' ? stepOf(init, mechanism) : stepOf(init, mechanism, handle ?? NO_HANDLE);
}

export function updateStep({ kind }: Beginning, data: Uint8Array): Step {
  return stepOf(functionsOf[kind].update as CallName, data);
}

export function finalStep({ kind }: Beginning, signature: Uint8Array | undefined): Step {
  const final = functionsOf[kind].final as CallName;
  return signature === undefined ? stepOf(final) : stepOf(final, signature);
}

function dataOperation<T>(
  name: CallName,
  { kind, mechanism, key, only }: Beginning,
  size: number,
  others: readonly VirtualObject[],
  job: Operation<T>['job'],
  read: Operation<T>['read'],
): Operation<T> {
  return {
    function: name,
    objects: key === undefined ? others : [key, ...others],
    mechanism: mechanism.type,
    aspect: aspectOf(kind === 'sign' ? 'C_Sign' : name, mechanism.type),
    only,
    kind: kindOfOperation(name, mechanism.type, size),
    results: kind === 'verify' ? verificationFailures : noCodes,
    job,
    read,
  };
}

/** Whether a member takes the Init, and the first Update after it; nothing comes of it. */
export function checking(beginning: Beginning, first?: Uint8Array): Operation<undefined> {
  const { init, update } = functionsOf[beginning.kind];
  const more = first === undefined ? [] : [updateStep(beginning, first)];
  return dataOperation(
    first === undefined ? init : (update as CallName),
    beginning,
    first?.length ?? 0,
    [],
    ([handle]) => ({ steps: [initStep(beginning, handle), ...more] }),
    () => undefined,
  );
}

/** The PIN of a key that asks for it each time goes into the job; a login of a token in files is a write. */
export function authenticating<T>(
  operation: Operation<T>,
  pinOf: (place: Location) => { readonly length: number },
): Operation<T> {
  return {
    ...operation,
    job: (handles, place) => {
      const { steps } = operation.job(handles, place);
      const [init, ...rest] = steps;
      const secret = pinOf(place);
      const writes = place.member.writesExclusively;
      if (init === undefined) return { steps };
      return {
        steps: [init, step('X_LogInAgain', secret.length), ...rest],
        secret,
        exclusive: writes,
        longWrite: writes,
      };
    },
    read: (reply, place) => operation.read({ ...reply, results: reply.results.toSpliced(1, 1) }, place),
  };
}

/** All data at once. */
export function inOnePart(beginning: Beginning, data: Uint8Array, signature?: Uint8Array): Operation<DataResult> {
  const { kind, mechanism } = beginning;
  const { single } = functionsOf[kind];
  return dataOperation(
    single,
    beginning,
    data.length,
    [],
    ([handle]) => ({
      steps: [
        initStep(beginning, handle),
        signature === undefined ? stepOf(single, data) : stepOf(single, data, signature),
      ],
    }),
    (reply) => ({ code: endOf(reply).code, output: outputIn(reply, 1, mechanism) }),
  );
}

/** Everything that was recorded, as one job. Parts that come one after the other are one to the token. */
export function inParts(beginning: Beginning, parts: readonly Part[], signature?: Uint8Array): Operation<DataResult> {
  const { kind, mechanism, key } = beginning;
  const joined = joinParts(parts);
  const keys = joined.filter((part): part is VirtualObject => !isData(part));
  const size = joined.reduce((sum, part) => sum + (isData(part) ? part.length : 0), 0);
  return dataOperation(
    functionsOf[kind].final as CallName,
    beginning,
    size,
    keys,
    (handles) => {
      const ofParts = key === undefined ? handles : handles.slice(1);
      const steps = joined.map((part) =>
        isData(part) ? updateStep(beginning, part) : step('C_DigestKey', ofParts[keys.indexOf(part)] ?? NO_HANDLE),
      );
      return {
        steps: [
          initStep(beginning, key === undefined ? undefined : handles[0]),
          ...steps,
          finalStep(beginning, signature),
        ],
      };
    },
    (reply) => ({ code: endOf(reply).code, output: outputIn(reply, joined.length + 1, mechanism) }),
  );
}

export function joinParts(parts: readonly Part[]): readonly Part[] {
  const joined: Part[] = [];
  let run: Uint8Array[] = [];
  const flush = (): void => {
    if (run.length > 0) joined.push(run.length === 1 ? (run[0] as Uint8Array) : Buffer.concat(run));
    run = [];
  };
  for (const part of parts) {
    if (isData(part)) run.push(part);
    else {
      flush();
      joined.push(part);
    }
  }
  flush();
  return joined;
}

/** What is cached of a check: the function, the mechanism and the shape of its parameter, without its bytes. */
export function shapeOf(name: string, { type, fields }: Mechanism): string {
  if (fields.length === 0) return labelFor(name, type);
  const shapes = fields.map((field) =>
    field.kind === 'number' || field.kind === 'flag'
      ? String(field.value)
      : String('value' in field ? field.value.length : field.kind),
  );
  return `${name}:${type}:${shapes.join(',')}`;
}
