import { constantsOf } from './constants.js';
import { checkNames, InputError, integerOf } from './input.js';
import { fieldsOf } from './parameter.js';
import type { Field } from './parameter-field.js';
import { insteadOf } from './suggestion.js';
import type { Writer } from './wire.js';

/** Mechanism in pkcs11js's form: `{ mechanism: CKM_AES_CBC, parameter }`. */
export interface RawMechanism {
  readonly mechanism: number;
  readonly parameter?: unknown;
}

/** Mechanism in graphene's form: `{ name: 'AES_CBC', params }`. */
export interface NamedMechanism {
  readonly name: string;
  readonly params?: unknown;
}

/** Mechanism as a caller gives it: a name, a number, or either form with a parameter. */
export type MechanismInput = string | number | NamedMechanism | RawMechanism;

/** Number of each kind of field in a packet (native/host/mechanism.cc). */
const fieldNumber = { number: 1, flag: 2, inlined: 3, pointed: 4, returned: 5 } as const;

/** Mechanism in wire form. */
export interface Mechanism {
  readonly type: number;
  readonly fields: readonly Field[];
  /** True if the mechanism does not take this kind of parameter: no member is asked. */
  readonly isUnfit?: boolean;
}

const mechanisms = constantsOf('CKM_');

function typeOf(field: string, value: unknown): number {
  if (typeof value === 'number') return integerOf(field, value, 0, 0xffff_ffff);
  if (typeof value !== 'string') throw new InputError(field, 'the name or number of a mechanism', value);
  const type = mechanisms.get(value.replace(/^CKM_/u, ''));
  if (type === undefined)
    throw new InputError(field, `the name of a mechanism ${insteadOf(value, [...mechanisms.keys()])}`, value);
  return type;
}

/** Encodes a mechanism from a name, a number, graphene's form or pkcs11js's form; InputError for anything else. */
export function encodeMechanism(field: string, input: unknown): Mechanism {
  if (typeof input === 'string' || typeof input === 'number') {
    const type = typeOf(field, input);
    return { type, fields: fieldsOf(`${field}.params`, type, undefined) };
  }
  if (typeof input !== 'object' || input === null)
    throw new InputError(field, 'the name of a mechanism or an object', input);
  const named = input as Partial<NamedMechanism & RawMechanism>;
  if (named.mechanism !== undefined) {
    checkNames(field, input, ['mechanism', 'parameter']);
    const type = typeOf(`${field}.mechanism`, named.mechanism);
    return { type, fields: fieldsOf(`${field}.parameter`, type, named.parameter) };
  }
  checkNames(field, input, ['name', 'params']);
  const type = typeOf(`${field}.name`, named.name);
  return { type, fields: fieldsOf(`${field}.params`, type, named.params) };
}

/**
 * Writes a mechanism as native/host/mechanism.cc reads it. Objects in the parameter must be bound first (bindObjects).
 */
export function writeMechanism(writer: Writer, mechanism: Mechanism): void {
  writer.u64(mechanism.type);
  writer.u32(mechanism.fields.length);
  for (const field of mechanism.fields) {
    if (field.kind === 'object') throw new Error('the parameter names an object without a real handle');
    writer.u8(fieldNumber[field.kind]);
    if (field.kind === 'number') writer.u64(field.value);
    else if (field.kind === 'flag') writer.u8(field.value ? 1 : 0);
    else writer.sized(field.value);
  }
}

/** Returns the virtual handles of the objects that the parameter names. */
export function handlesIn({ fields }: Mechanism): readonly Uint8Array[] {
  return fields.flatMap((field) => (field.kind === 'object' ? [field.handle] : []));
}

/** Returns the mechanism with real handles for the objects that the parameter names, in the order of `handlesIn`. */
export function bindObjects(mechanism: Mechanism, handles: readonly Uint8Array[]): Mechanism {
  if (handles.length === 0) return mechanism;
  let next = 0;
  const fields = mechanism.fields.map((field): Field => {
    if (field.kind !== 'object') return field;
    next += 1;
    return { kind: 'number', value: Buffer.from(handles[next - 1] ?? new Uint8Array(8)).readBigUInt64LE() };
  });
  return { type: mechanism.type, fields };
}

/**
 * Copies bytes that a token wrote to the parameter (an IV that the token picked) into the application's own buffers.
 */
export function takeReturned(mechanism: Mechanism, returned: readonly Uint8Array[]): void {
  const targets = mechanism.fields.filter((field) => field.kind === 'returned');
  targets.forEach((target, index) => {
    const bytes = returned[index];
    if (target.kind !== 'returned' || bytes === undefined || bytes.length !== target.value.length) return;
    // If the token wrote nothing, the buffer stays untouched: the application may already use it for something else.
    if (Buffer.compare(bytes, target.value) === 0) return;
    target.value.set(bytes);
    target.target?.set(bytes);
  });
}
