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

/** Arguments of an Init: an operation that is begun on a session. */
export interface Beginning {
  readonly kind: DataKind;
  readonly mechanism: Mechanism;
  /** The key; undefined for digests. */
  readonly key: VirtualObject | undefined;
  /** The member whose own slot the operation was begun on; undefined for the virtual slot. */
  readonly only?: Member | undefined;
}

/** Part of a multi-part operation: data, or for digests also a key (C_DigestKey). */
export type Part = Uint8Array | VirtualObject;

/** Result of an operation: its output, and CKR_OK or the code that a verification answered. */
export interface DataResult {
  readonly code: number;
  readonly output: Buffer;
}

const NOTHING = Buffer.alloc(0);
const NO_HANDLE = new Uint8Array(8);

function isData(part: Part): part is Uint8Array {
  return part instanceof Uint8Array;
}

/** Returns the output of a step, and writes the values that the token returned to the mechanism's parameter. */
export function outputIn(reply: JobReply, index: number, mechanism: Mechanism): Buffer {
  const value = reply.results[index]?.value;
  if (value === undefined) return NOTHING;
  if (Buffer.isBuffer(value)) return value;
  const { output, returned } = value as CipherOutput;
  takeReturned(mechanism, returned);
  return output;
}

/** Builds a step of a call from `functionsOf`; its arguments cannot be checked by type. */
function stepOf(call: CallName, ...args: readonly unknown[]): Step {
  return { call, arguments: args };
}

/** Returns the step of the operation's Init. */
export function initStep({ kind, mechanism }: Beginning, handle: Uint8Array | undefined): Step {
  const { init } = functionsOf[kind];
  return kind === 'digest' ? stepOf(init, mechanism) : stepOf(init, mechanism, handle ?? NO_HANDLE);
}

/** Returns the step of one Update. */
export function updateStep({ kind }: Beginning, data: Uint8Array): Step {
  return stepOf(functionsOf[kind].update as CallName, data);
}

/** Returns the step of the Final; `signature` is the one that C_VerifyFinal checks. */
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

/** Returns the operation that tries an Init on a member, and the first Update if given; the result is discarded. */
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

/**
 * Returns the operation with a login between Init and data, for a CKA_ALWAYS_AUTHENTICATE key. The PIN is part of the
 * job. If the member writes exclusively, its token writes at each login, so the job counts as a write.
 */
export function authenticating<T>(
  operation: Operation<T>,
  pinOf: (location: Location) => { readonly length: number },
): Operation<T> {
  return {
    ...operation,
    job: (handles, location) => {
      const { steps } = operation.job(handles, location);
      const [init, ...rest] = steps;
      const secret = pinOf(location);
      const writes = location.member.writesExclusively;
      if (init === undefined) return { steps };
      return {
        steps: [init, step('X_LogInAgain', secret.length), ...rest],
        secret,
        exclusive: writes,
        longWrite: writes,
      };
    },
    read: (reply, location) => operation.read({ ...reply, results: reply.results.toSpliced(1, 1) }, location),
  };
}

/** Returns the single-part operation, as one job: the Init, and the call with all data. */
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

/** Returns the recorded multi-part operation as one job; neighbouring data become one Update. */
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

/** Concatenates neighbouring data; keys stay between them. */
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

/** Returns the cache key of an init check: function, mechanism and the shape of its parameter, without its bytes. */
export function shapeOf(name: string, { type, fields }: Mechanism): string {
  if (fields.length === 0) return labelFor(name, type);
  const shapes = fields.map((field) =>
    field.kind === 'number' || field.kind === 'flag'
      ? String(field.value)
      : String('value' in field ? field.value.length : field.kind),
  );
  return `${name}:${type}:${shapes.join(',')}`;
}
