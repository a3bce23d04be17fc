import { TokenError } from '../../core/base/error.js';
import type { Task } from '../../core/base/task.js';
import type { VirtualObject } from '../../core/objects/object.js';
import type { OpenGroup } from '../../runtime/groups/open-group.js';
import type { Attribute } from '../../spec/attribute.js';
import { CKR } from '../../spec/codes.js';
import { bytesOf, checkNames, checkSignal, InputError, integerOf } from '../../spec/input.js';
import { encodeTemplate } from '../../spec/template.js';
import { TokenObject } from './object.js';

/** Throws CKR_CRYPTOKI_NOT_INITIALIZED if the token was closed. */
export function checkOpen({ isClosed }: OpenGroup): void {
  if (isClosed) throw new TokenError(CKR.cryptokiNotInitialized, '', 'the virtual token is closed');
}

/** Longest budget of a call (ms). */
const LONGEST_DEADLINE = 2 ** 31 - 1;
/** Maximum size of a call's input (bytes). */
const MOST_DATA = 256 * 1024 * 1024;
const NO_OPTIONS: CallOptions = {};

/** Options that every call takes besides its own arguments. */
export interface CallOptions {
  /** Budget of the call (ms); `policy.deadline` by default. */
  readonly deadline?: number;
  /**
   * Abandons the call, which then rejects with the signal's reason; changes that it has begun are undone afterwards.
   */
  readonly signal?: AbortSignal;
}

/** Makes the snapshot of an object that a call has created. */
export function tokenObject(object: VirtualObject | undefined): TokenObject {
  if (object === undefined) throw new Error('the call created no object');
  return new TokenObject(object);
}

/** Names of the options that every call takes. */
const everyName = ['deadline', 'signal'];

/**
 * Checks a call's options and returns its budget (ms), or the default if they state none. `more` are the names of the
 * call's own options. Throws InputError.
 */
export function budgetOf(options: CallOptions, otherwise: number, more: readonly string[] = []): number {
  checkNames('options', options, more.length === 0 ? everyName : [...everyName, ...more]);
  const { deadline, signal } = options;
  checkSignal('options.signal', signal);
  return deadline === undefined ? otherwise : integerOf('options.deadline', deadline, 1, LONGEST_DEADLINE);
}

/** Runs a task within a call's budget; throws if the token was closed. */
export function runWithin<T>(
  open: OpenGroup,
  task: (deadline: number) => Task<T>,
  options: CallOptions = NO_OPTIONS,
): Promise<T> {
  const deadline = open.now() + budgetOf(options, open.group.policy.deadline);
  checkOpen(open);
  return open.run(task(deadline), options.signal);
}

/** Encodes and copies a template, whose values may be the caller's own buffers. */
export function copyOfTemplate(field: string, template: unknown): readonly Attribute[] {
  return encodeTemplate(field, template).map(({ type, value }) => ({ type, value: new Uint8Array(value) }));
}

/** Copies data: a call may still run, or be repeated, after the caller has reused its buffer. */
export function copyOf(field: string, data: unknown): Buffer {
  const bytes = bytesOf(field, data);
  if (bytes.length > MOST_DATA) throw new InputError(field, `at most ${MOST_DATA} bytes`, data);
  const copy = Buffer.allocUnsafe(bytes.length);
  copy.set(bytes);
  return copy;
}
