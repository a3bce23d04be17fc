import type { VirtualObject } from '../../core/objects/object.js';
import { namesOf } from '../../spec/constants.js';
import { bytesIn, InputError } from '../../spec/input.js';

const classes = namesOf('CKO_');
const keyTypes = namesOf('CKK_');
const certificateTypes = namesOf('CKC_');

function nameIn(names: ReadonlyMap<number, string>, value: number): string {
  return names.get(value) ?? `0x${value.toString(16)}`;
}

/** Object of the virtual token, as a snapshot: its fields do not change after it was found. */
export class TokenObject {
  /** Virtual handle of 48 bits: the same in every process, on every member, after every restart. */
  readonly handle: number;
  /** Class: `SECRET_KEY`, `PRIVATE_KEY`, `PUBLIC_KEY`, `CERTIFICATE`, `DATA`, … */
  readonly class: string;
  /** Key type (`AES`, `RSA`, `EC`, …) or certificate type (`X_509`); empty for a data object. */
  readonly type: string;
  readonly label: string;
  /** Value of CKA_ID. */
  readonly id: Buffer;

  constructor({ handle, description, label, id }: VirtualObject) {
    const name = nameIn(classes, description.class);
    this.handle = handle;
    this.class = name;
    this.type = Number.isNaN(description.type)
      ? ''
      : nameIn(name === 'CERTIFICATE' ? certificateTypes : keyTypes, description.type);
    this.label = label;
    this.id = id;
  }
}

/** Object as calls take it: a TokenObject, or a handle as a number, a bigint or eight bytes. */
export type ObjectInput = TokenObject | number | bigint | Uint8Array;

/** Largest virtual handle. */
const MOST = 2 ** 48 - 1;

/** Returns the virtual handle of an object or handle; InputError for a value that cannot be one. */
export function handleOf(field: string, input: unknown): number {
  if (input instanceof TokenObject) return input.handle;
  let handle = Number.NaN;
  if (typeof input === 'number' || typeof input === 'bigint') handle = Number(input);
  const bytes = bytesIn(input);
  if (bytes?.length === 8) handle = Number(Buffer.from(bytes).readBigUInt64LE());
  if (Number.isInteger(handle) && handle > 0 && handle <= MOST) return handle;
  throw new InputError(field, 'an object of this token or its handle', input);
}
