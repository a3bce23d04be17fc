import { guardPin } from '../../runtime/secrets/pin.js';
import type { Attribute } from '../../spec/attribute.js';
import { CKA } from '../../spec/codes.js';
import { isDate } from '../../spec/input.js';
import type { SecretRef } from '../../spec/job.js';
import type { Mechanism } from '../../spec/mechanism.js';
import type { Field } from '../../spec/parameter-field.js';
import { fitsKind, hasPointers } from '../../spec/parameter-fit.js';
import { fieldsOfKind } from '../../spec/parameter-kind.js';
import { nestedTypes } from '../../spec/template.js';

/** Kinds of arguments, with the type that each is read into. Errors are TypeErrors with pkcs11js's texts. */
export interface Kinds {
  /** Slot id, session or object, in eight bytes; -1 for bytes that are no virtual handle. */
  handle: number;
  bytes: Uint8Array;
  /** Application's own memory for an output. */
  output: Uint8Array;
  ulong: number;
  text: string;
  /** PIN in guarded memory; undefined for a PIN that no token can have. */
  pin: SecretRef | undefined;
  mechanism: Mechanism;
  template: readonly Attribute[];
  /** Application's own array, which gets the values, and the room that the application gives each value. */
  attributes: { readonly own: { type: number; value?: unknown }[]; readonly wanted: readonly Attribute[] };
}

export type Kind = keyof Kinds;
/** Length of a CK_DATE (bytes). */
const DATE_LENGTH = 8;
/** Value for a handle that cannot be a virtual one. */
const NO_HANDLE = -1;

/** Converts a number to a uint32, as N-API does. */
function uint32(value: number): number {
  return value >>> 0;
}

/** Returns a view's bytes as a Uint8Array on the same memory. */
export function viewOf(value: ArrayBufferView): Uint8Array {
  return value instanceof Uint8Array ? value : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

function isView(value: unknown): value is ArrayBufferView {
  return ArrayBuffer.isView(value);
}

function wrong(index: number, expected: string): TypeError {
  return new TypeError(`Argument ${index} has wrong type. Should be ${expected}`);
}

function readBytes(value: unknown, index: number): Uint8Array {
  if (!isView(value)) throw wrong(index, 'a Buffer');
  return viewOf(value);
}

/** Reads a handle's eight bytes as a number; NO_HANDLE if no virtual handle has this value. */
export function handleIn(bytes: Uint8Array): number {
  const at = (index: number): number => bytes[index] ?? 0;
  const low = (at(0) | (at(1) << 8) | (at(2) << 16) | (at(3) << 24)) >>> 0;
  const high = at(4) | (at(5) << 8);
  const isSmall = (at(6) | at(7)) === 0;
  return isSmall && (low | high) !== 0 ? high * 0x1_0000_0000 + low : NO_HANDLE;
}

function readHandle(value: unknown, index: number): number {
  const bytes = readBytes(value, index);
  if (bytes.length !== 8) throw new TypeError(`Argument ${index} has wrong length. Should be 8 bytes.`);
  return handleIn(bytes);
}

function readText(value: unknown, index: number): string {
  if (typeof value !== 'string') throw wrong(index, 'a String');
  return value;
}

function readPin(value: unknown, index: number): SecretRef | undefined {
  const text = readText(value, index);
  try {
    return guardPin('pin', text);
  } catch {
    return undefined;
  }
}

function readUlong(value: unknown, index: number): number {
  if (typeof value !== 'number') throw wrong(index, 'a Number');
  return uint32(value);
}

function readMechanism(value: unknown, index: number): Mechanism {
  if (typeof value !== 'object' || value === null) throw wrong(index, 'an Object');
  const { mechanism, parameter } = value as { mechanism?: unknown; parameter?: unknown };
  const fail = (text: string): TypeError => new TypeError(`Argument ${index} has wrong type. ${text}`);
  if (typeof mechanism !== 'number') throw fail("Property 'mechanism' should be a Number");
  const type = uint32(mechanism);
  if (parameter === undefined || parameter === null) return { type, fields: [] };
  if (typeof parameter === 'number') return { type, fields: [{ kind: 'number', value: uint32(parameter) }] };
  if (isView(parameter)) return { type, fields: rawFields(type, viewOf(parameter), index) };
  if (typeof parameter !== 'object') throw fail("Property 'parameter' should be an Object or Buffer");
  const { type: kind } = parameter as { type?: unknown };
  if (typeof kind !== 'number') throw fail("Property 'type' should be a Number");
  const fields = fieldsOfKind(type, uint32(kind), parameter);
  if (fields === undefined) throw fail("Property 'type' should be one of CK_PARAMS_*");
  return fitsKind(type, uint32(kind)) ? { type, fields } : { type, fields: [], isUnfit: true };
}

function rawFields(type: number, bytes: Uint8Array, index: number): readonly Field[] {
  if (hasPointers(type) && bytes.length > 0)
    throw new TypeError(
      `Argument ${index} has wrong type. Property 'parameter' should be an Object for this mechanism`,
    );
  return [{ kind: 'inlined', value: new Uint8Array(bytes) }];
}

/** Encodes an attribute's value; empty if it is omitted. */
function bytesOfValue(value: unknown, type: number, element: number): Uint8Array {
  if (value === undefined || value === null) return new Uint8Array();
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32LE(uint32(value));
    return checkDate(bytes, type);
  }
  if (typeof value === 'boolean') return checkDate(Uint8Array.of(value ? 1 : 0), type);
  if (typeof value === 'string') return dateOf(Buffer.from(value, 'utf8'), type);
  if (isView(value)) return dateOf(new Uint8Array(viewOf(value)), type);
  throw new TypeError(
    `Element ${element} has wrong type. Property 'value' should be a Number, Boolean, String or Buffer`,
  );
}

function isDateType(type: number): boolean {
  return type === CKA.startDate || type === CKA.endDate;
}

const nameOf = (type: number): string => `0x${type.toString(16).toUpperCase().padStart(8, '0')}`;

function checkDate(bytes: Uint8Array, type: number): Uint8Array {
  if (!isDateType(type)) return bytes;
  throw new TypeError(
    `Attribute with type ${nameOf(type)} is not convertible to CK_DATE. Should be a String, Buffer or Date`,
  );
}

function dateOf(bytes: Uint8Array, type: number): Uint8Array {
  if (!isDateType(type) || bytes.length === 0) return bytes;
  if (bytes.length < DATE_LENGTH) {
    throw new TypeError(
      `Attribute with type ${nameOf(type)} is not convertible to CK_DATE. The length of the data should be at least 8 bytes.`,
    );
  }
  return bytes.subarray(0, DATE_LENGTH);
}

function readTemplate(value: unknown, index: number): Attribute[] {
  if (!Array.isArray(value)) throw wrong(index, 'an Array');
  return value.map((element: unknown, at): Attribute => {
    if (typeof element !== 'object' || element === null)
      throw new TypeError(`Element ${at} has wrong type. Should be an Object`);
    const { type, value: given } = element as { type?: unknown; value?: unknown };
    if (typeof type !== 'number')
      throw new TypeError(`Element ${at} has wrong type. Property 'type' should be a Number`);
    const number = uint32(type);
    if (given !== undefined && given !== null && nestedTypes.has(number))
      throw new TypeError(`Attribute with type ${nameOf(number)} is a nested template, which is not supported`);
    const isDay = isDate(given) && isDateType(number);
    const plain = isDay ? given.toISOString().slice(0, 10).replaceAll('-', '') : given;
    return { type: number, value: bytesOfValue(plain, number, at) };
  });
}

const readers: { readonly [K in Kind]: (value: unknown, index: number) => Kinds[K] } = {
  handle: readHandle,
  bytes: readBytes,
  output: readBytes,
  ulong: readUlong,
  text: readText,
  pin: readPin,
  mechanism: readMechanism,
  template: readTemplate,
  attributes: (value, index) => ({
    wanted: readTemplate(value, index),
    own: value as Kinds['attributes']['own'],
  }),
};

/** Types of the arguments of the given kinds. */
export type ArgumentsOf<K extends readonly Kind[]> = { readonly [I in keyof K]: Kinds[K[I]] };

/** Reads a call's arguments; `more` is the number of arguments that follow them, such as a callback. */
export function readArguments<const K extends readonly Kind[]>(
  kinds: K,
  args: readonly unknown[],
  more: number,
): ArgumentsOf<K> {
  const expected = kinds.length + more;
  if (args.length !== expected)
    throw new TypeError(`Parameters are required. Expected ${expected} arguments, but received ${args.length}.`);
  return kinds.map((kind, index) => readers[kind](args[index], index)) as unknown as ArgumentsOf<K>;
}

/** Checks the callback at an argument's index. */
export function readCallback(value: unknown, index: number): (error: unknown, result: unknown) => void {
  if (typeof value !== 'function') throw wrong(index, 'a Function');
  return value as (error: unknown, result: unknown) => void;
}
