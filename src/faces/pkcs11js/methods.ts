import { TokenError } from '../../core/base/error.js';
import type { Task } from '../../core/base/task.js';
import type { DataResult } from '../../core/jobs/data-operation.js';
import type { DataKind } from '../../core/jobs/operation-kind.js';
import type { OpenGroup } from '../../runtime/groups/open-group.js';
import { CKR } from '../../spec/codes.js';
import { handlesIn, type Mechanism } from '../../spec/mechanism.js';
import type { ArgumentsOf, Kind } from './arguments.js';
import type { Library, OpenSession } from './library.js';

/** Outcome of starting a call: a value, or a task of a group. */
export type Calling = { readonly value: unknown } | { readonly open: OpenGroup; readonly task: Task<unknown> };

/** Method of pkcs11js, with its arguments and its implementation. */
export interface Method {
  readonly takes: readonly Kind[];
  /** True if the method also has a form with a callback, and one with a promise. */
  readonly isAsync?: boolean;
  /** True if the mechanism's parameter may name objects by their handles. */
  readonly mayNameObjects?: boolean;
  /** Index of the argument that the result is written to; the call returns the written part. */
  readonly output?: number;
  /** Check for a call with an empty output, which only asks for a length: throws unless the operation was begun. */
  readonly queries?: (library: Library, args: readonly unknown[]) => void;
  readonly run: (library: Library, args: readonly never[]) => Calling;
}

/** Session with its group, and the deadline of a call on it (ms of the group's clock). */
export interface SessionCall extends OpenSession {
  readonly deadline: number;
}

/** Finds a call's session, and sets the call's deadline. */
export function at(library: Library, handle: number): SessionCall {
  const { slot, open, session } = library.session(handle);
  return { slot, open, session, deadline: open.now() + open.group.policy.deadline };
}

function checkParameter(mechanism: Mechanism, mayNameObjects: boolean): void {
  if (mechanism.isUnfit !== true && (mayNameObjects || handlesIn(mechanism).length === 0)) return;
  throw new TokenError(
    CKR.mechanismParamInvalid,
    '',
    'the mechanism does not take a parameter of this kind in this call',
  );
}

/** Makes a method whose first argument is a session. */
export function onSession<const K extends readonly Kind[]>(
  takes: K,
  make: (call: SessionCall, ...args: ArgumentsOf<K>) => Task<unknown>,
  more: Partial<Method> = {},
): Method {
  return {
    takes: ['handle', ...takes],
    ...more,
    run: (library, [handle, ...args]) => {
      const call = at(library, handle as unknown as number);
      takes.forEach((kind, index) => {
        if (kind === 'mechanism') checkParameter(args[index] as unknown as Mechanism, more.mayNameObjects === true);
      });
      return { open: call.open, task: make(call, ...(args as unknown as ArgumentsOf<K>)) };
    },
  };
}

/** Makes a method whose first argument is a session and that asks no member. */
export function onSessionNow<const K extends readonly Kind[]>(
  takes: K,
  make: (call: SessionCall, ...args: ArgumentsOf<K>) => unknown,
): Method {
  return {
    takes: ['handle', ...takes],
    run: (library, [handle, ...args]) => {
      const call = at(library, handle as unknown as number);
      return { value: make(call, ...(args as unknown as ArgumentsOf<K>)) };
    },
  };
}

/** Makes the check for calls that only ask for a length: throws unless the operation was begun. */
export function queriesFor(kind: DataKind, functionName: string): NonNullable<Method['queries']> {
  return (library, [handle]) => at(library, handle as number).session.checkBegun(kind, functionName);
}

/** Runs a task and returns its output. */
export function* outputOf(task: Task<DataResult>): Task<Buffer> {
  return (yield* task).output;
}

/** Throws CKR_FUNCTION_NOT_SUPPORTED. */
export function unsupported(functionName: string): never {
  throw new TokenError(CKR.functionNotSupported, functionName, 'a virtual slot does not support this call');
}
