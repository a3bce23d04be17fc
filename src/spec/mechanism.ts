import { constantsOf } from './constants.js';
import { InputError, integerOf } from './input.js';
import { type Field, fieldsOf } from './parameter.js';
import type { Writer } from './wire.js';

/** pkcs11js's form: `{ mechanism: CKM_AES_CBC, parameter }`. */
export interface RawMechanism {
  readonly mechanism: number;
  readonly parameter?: unknown;
}

/** graphene's form: `{ name: 'AES_CBC', params }`. */
export interface NamedMechanism {
  readonly name: string;
  readonly params?: unknown;
}

export type MechanismInput = string | number | NamedMechanism | RawMechanism;

const fieldNumber = { number: 1, flag: 2, inlined: 3, pointed: 4, returned: 5 } as const;

/** A mechanism ready for the wire. */
export interface Mechanism {
  readonly type: number;
  readonly fields: readonly Field[];
}

const mechanisms = constantsOf('CKM_');

function typeOf(field: string, value: unknown): number {
  if (typeof value === 'number') return integerOf(field, value, 0, 0xffff_ffff);
  if (typeof value !== 'string') throw new InputError(field, 'the name or number of a mechanism', value);
  const type = mechanisms.get(value.replace(/^CKM_/u, ''));
  if (type === undefined) throw new InputError(field, `the name of a mechanism (not '${value}')`, value);
  return type;
}

/** A mechanism from its name, number, graphene's or pkcs11js's form; InputError for what is none. */
export function encodeMechanism(field: string, input: unknown): Mechanism {
  if (typeof input === 'string' || typeof input === 'number') return { type: typeOf(field, input), fields: [] };
  if (typeof input !== 'object' || input === null)
    throw new InputError(field, 'the name of a mechanism or an object', input);
  const named = input as Partial<NamedMechanism & RawMechanism>;
  if (named.mechanism !== undefined) {
    const type = typeOf(`${field}.mechanism`, named.mechanism);
    return { type, fields: fieldsOf(`${field}.parameter`, type, named.parameter) };
  }
  const type = typeOf(`${field}.name`, named.name);
  return { type, fields: fieldsOf(`${field}.params`, type, named.params) };
}

/** The wire form, as native/host/mechanism.cc reads it. */
export function writeMechanism(writer: Writer, mechanism: Mechanism): void {
  writer.u64(mechanism.type);
  writer.u32(mechanism.fields.length);
  for (const field of mechanism.fields) {
    writer.u8(fieldNumber[field.kind]);
    if (field.kind === 'number') writer.u64(field.value);
    else if (field.kind === 'flag') writer.u8(field.value ? 1 : 0);
    else writer.sized(field.value);
  }
}

/** Copies what a token wrote to the parameter (an IV it picked) into the application's own buffers. */
export function takeReturned(mechanism: Mechanism, returned: readonly Uint8Array[]): void {
  const targets = mechanism.fields.filter((field) => field.kind === 'returned');
  targets.forEach((target, index) => {
    const bytes = returned[index];
    if (target.kind === 'returned' && bytes !== undefined && bytes.length === target.value.length)
      target.value.set(bytes);
  });
}
