import { TokenError } from '../../core/base/error.js';
import type { Task } from '../../core/base/task.js';
import type { DataResult } from '../../core/jobs/data-operation.js';
import type { DataKind } from '../../core/jobs/operation-kind.js';
import type { OpenGroup } from '../../runtime/groups/open-group.js';
import { CKR } from '../../spec/codes.js';
import { handlesIn, type Mechanism } from '../../spec/mechanism.js';
import type { ArgumentsOf, Kind } from './arguments.js';
import type { Library, OpenSession } from './library.js';

/** What a call comes to: at once, or as a task of a group. */
export type Calling = { readonly value: unknown } | { readonly open: OpenGroup; readonly task: Task<unknown> };

/** How a method of pkcs11js is served. */
export interface Method {
  readonly takes: readonly Kind[];
  /** There is a form with a callback, and one with a promise. */
  readonly isAsync?: boolean;
  /** Its mechanism's parameter may name objects by their handles. */
  readonly mayNameObjects?: boolean;
  /** The argument that the result is written to; the call gives the part of it that was. */
  readonly output?: number;
  /** The operation that only has to be there when the output has no room: then the call asks for a length. */
  readonly queries?: (library: Library, args: readonly unknown[]) => void;
  readonly run: (library: Library, args: readonly never[]) => Calling;
}

/** A session's group, and until when a call on it may take (ms of the group's clock). */
export interface SessionCall extends OpenSession {
  readonly deadline: number;
}

export function at(library: Library, handle: number): SessionCall {
  const { slot, open, session } = library.session(handle);
  return { slot, open, session, deadline: open.now() + open.group.policy.deadline };
}

function checkParameter(mechanism: Mechanism, mayNameObjects: boolean): void {
  if (mechanism.isUnfit !== true && (mayNameObjects || handlesIn(mechanism).length === 0)) return;
  throw new TokenError(
    CKR.mechanismParamInvalid,
    '',
    'the parameter is of a kind that the mechanism does not take here',
  );
}

/** A method whose first argument is a session. */
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

/** The same for what needs no member. */
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

/** Of a call that only asks for a length: the operation has to be there. */
export function queriesFor(kind: DataKind, functionName: string): NonNullable<Method['queries']> {
  return (library, [handle]) => at(library, handle as number).session.checkBegun(kind, functionName);
}

export function* outputOf(task: Task<DataResult>): Task<Buffer> {
  return (yield* task).output;
}

export function unsupported(functionName: string): never {
  throw new TokenError(CKR.functionNotSupported, functionName, 'the virtual slot has no such call');
}
