import { insteadOf } from './suggestion.js';

/** Describes the kind of a value, never its content: values may be PINs, keys or plaintext. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (value instanceof Uint8Array) return `a Buffer of ${value.length} bytes`;
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === 'object') return `an object (${value.constructor?.name ?? 'no class'})`;
  return `a ${typeof value}`;
}

/**
 * Error for bad input: names the field, the kind of the given value and the expected kind. Thrown before any member is
 * asked.
 */
export class InputError extends TypeError {
  readonly field: string;

  constructor(field: string, expected: string, given: unknown) {
    super(`${field}: expected ${expected}, got ${kindOf(given)}`);
    this.name = 'InputError';
    this.field = field;
  }
}

/** Getter of ArrayBuffers, of any realm; it throws for other values. */
const lengthOfBuffer = Object.getOwnPropertyDescriptor(ArrayBuffer.prototype, 'byteLength')?.get;

function isArrayBuffer(value: unknown): value is ArrayBuffer {
  if (typeof value !== 'object') return false;
  try {
    lengthOfBuffer?.call(value);
    return true;
  } catch {
    return false;
  }
}

/** Returns true for a Date of any realm that tells a time. */
export function isDate(value: unknown): value is Date {
  try {
    return !Number.isNaN(Date.prototype.getTime.call(value));
  } catch {
    return false;
  }
}

/** Returns the bytes of any view or ArrayBuffer, of any realm, without a copy; undefined for another value. */
export function bytesIn(value: unknown): Uint8Array | undefined {
  if (value instanceof Uint8Array) return value;
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return isArrayBuffer(value) ? new Uint8Array(value) : undefined;
}

/** Returns the bytes of any view, an ArrayBuffer or a string (as UTF-8); InputError for anything else. */
export function bytesOf(field: string, value: unknown): Uint8Array {
  const bytes = bytesIn(value);
  if (bytes !== undefined) return bytes;
  if (typeof value === 'string') return new TextEncoder().encode(value);
  throw new InputError(field, 'a Buffer, a typed array or a string', value);
}

/** Throws InputError unless a value is an object all of whose fields have one of the known names. */
export function checkNames(field: string, value: unknown, known: readonly string[]): void {
  if (typeof value !== 'object' || value === null) throw new InputError(field, 'an object', value);
  for (const [name, given] of Object.entries(value)) {
    if (given === undefined || known.includes(name)) continue;
    throw new InputError(`${field}.${name}`, `one of ${known.join(', ')} ${insteadOf(name, known)}`, given);
  }
}

/** Returns true or false as given, false if it is left out; InputError for anything else. */
export function flagOf(field: string, value: unknown): boolean {
  if (value === undefined || typeof value === 'boolean') return value ?? false;
  throw new InputError(field, 'true or false', value);
}

/** Throws InputError unless a value is an AbortSignal, of any realm, or undefined. */
export function checkSignal(field: string, value: unknown): asserts value is AbortSignal | undefined {
  if (value === undefined) return;
  const { aborted, addEventListener } = Object(value) as { aborted?: unknown; addEventListener?: unknown };
  if (typeof value === 'object' && typeof aborted === 'boolean' && typeof addEventListener === 'function') return;
  throw new InputError(field, 'an AbortSignal', value);
}

/** Returns the value if it is an integer from `low` to `high`; InputError otherwise. */
export function integerOf(field: string, value: unknown, low: number, high: number): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= low && value <= high) return value;
  throw new InputError(field, `an integer from ${low} to ${high}`, value);
}
