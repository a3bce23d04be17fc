import type { Attribute } from '../../spec/attribute.js';
import { ck } from '../../spec/constants.js';

const yes = Uint8Array.of(1);
const no = Uint8Array.of(0);

/** Returns boolean attributes by their CKA names. State every flag: tokens differ in the defaults that they fill in. */
export function flags(given: Readonly<Record<string, boolean>>): Attribute[] {
  return Object.entries(given).map(([name, value]) => ({ type: ck(`CKA_${name}`), value: value ? yes : no }));
}
