import { TokenError } from '../../core/base/error.js';
import type { VirtualObject } from '../../core/objects/object.js';
import type { OpenGroup } from '../../runtime/groups/open-group.js';
import type { Attribute } from '../../spec/attribute.js';
import { CKR } from '../../spec/codes.js';
import { bytesOf, InputError, integerOf } from '../../spec/input.js';
import { encodeTemplate } from '../../spec/template.js';
import { TokenObject } from './object.js';

/** Throws where the token was closed. */
export function checkOpen({ isClosed }: OpenGroup): void {
  if (isClosed) throw new TokenError(CKR.cryptokiNotInitialized, '', 'the virtual token is closed');
}

const LONGEST_DEADLINE = 2 ** 31 - 1;
const MOST_DATA = 256 * 1024 * 1024;

/** What every call takes besides its own arguments. */
export interface CallOptions {
  /** The call's budget in ms; `policy.deadline` where none is given. */
  readonly deadline?: number;
  /** Gives the call up; what it has begun to change is undone behind it. It then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

export function tokenObject(object: VirtualObject | undefined): TokenObject {
  if (object === undefined) throw new Error('a call that makes an object made none');
  return new TokenObject(object);
}

export function budgetOf({ deadline }: CallOptions, otherwise: number): number {
  return deadline === undefined ? otherwise : integerOf('options.deadline', deadline, 1, LONGEST_DEADLINE);
}

/** A copy of a template: what it holds may be the caller's own buffers. */
export function copyOfTemplate(field: string, template: unknown): readonly Attribute[] {
  return encodeTemplate(field, template).map(({ type, value }) => ({ type, value: new Uint8Array(value) }));
}

/** A copy: the call may still run, or run again, when the caller has gone on to use its buffer. */
export function copyOf(field: string, data: unknown): Buffer {
  const bytes = bytesOf(field, data);
  if (bytes.length > MOST_DATA) throw new InputError(field, `at most ${MOST_DATA} bytes`, data);
  const copy = Buffer.allocUnsafe(bytes.length);
  copy.set(bytes);
  return copy;
}
