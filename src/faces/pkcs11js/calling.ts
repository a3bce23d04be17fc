import { readArguments, readCallback, viewOf } from './arguments.js';
import { convertError } from './errors.js';
import type { Library } from './library.js';
import type { Method } from './methods.js';

/**
 * Copies an output into the application's memory, and returns the part that was written; other results pass through.
 */
function deliver({ output }: Method, args: readonly unknown[], result: unknown): unknown {
  if (output === undefined) return result;
  const own = args[output] as Uint8Array;
  const bytes = result as Buffer;
  if (own.length === 0) return own.subarray(0, 0);
  viewOf(own).set(bytes);
  return own.subarray(0, bytes.length);
}

/** Tells whether a call only asks for the output's length. */
function isQuery({ output, queries }: Method, args: readonly unknown[]): boolean {
  return output !== undefined && queries !== undefined && (args[output] as Uint8Array).length === 0;
}

/** Runs a call to its end on this thread. */
export function callSync(library: Library, name: string, method: Method, args: readonly unknown[]): unknown {
  const parsed = readArguments(method.takes, args, 0) as readonly never[];
  try {
    if (isQuery(method, args)) {
      method.queries?.(library, parsed);
      return deliver(method, args, undefined);
    }
    const calling = method.run(library, parsed);
    const result = 'task' in calling ? calling.open.runSync(calling.task) : calling.value;
    return deliver(method, args, result);
  } catch (error) {
    throw convertError(error, method.isAsync === true || method.output !== undefined ? '' : name);
  }
}

/** Runs a call asynchronously. Calls the callback in a turn of its own, as for work done on another thread. */
export function callWith(library: Library, method: Method, args: readonly unknown[]): undefined {
  const own = args.slice(0, method.takes.length);
  const parsed = readArguments(method.takes, args, 1);
  const callback = readCallback(args[method.takes.length], method.takes.length);
  // Copies inputs: the application may reuse its buffers during the call.
  const kept = (parsed as readonly unknown[]).map((value, at) =>
    method.takes[at] === 'bytes' ? new Uint8Array(value as Uint8Array) : value,
  );
  const deliverTo = (work: () => unknown): void => {
    let result: unknown;
    try {
      result = work();
    } catch (error) {
      process.nextTick(callback, convertError(error, ''), null);
      return;
    }
    process.nextTick(callback, null, result);
  };
  try {
    if (isQuery(method, own)) {
      deliverTo(() => {
        method.queries?.(library, kept);
        return deliver(method, own, undefined);
      });
      return undefined;
    }
    const calling = method.run(library, kept as readonly unknown[] as readonly never[]);
    if (!('task' in calling)) {
      deliverTo(() => deliver(method, own, calling.value));
      return undefined;
    }
    calling.open.run(calling.task).then(
      (result) => deliverTo(() => deliver(method, own, result)),
      (error) =>
        deliverTo(() => {
          throw error;
        }),
    );
  } catch (error) {
    deliverTo(() => {
      throw error;
    });
  }
  return undefined;
}
