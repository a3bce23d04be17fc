import type { Attribute } from '../../spec/attribute.js';
import { ck } from '../../spec/constants.js';

const yes = Uint8Array.of(1);
const no = Uint8Array.of(0);

/** Attributes by their CKA names: everything is stated, since what is left open tokens fill in as they like. */
export function flags(given: Readonly<Record<string, boolean>>): Attribute[] {
  return Object.entries(given).map(([name, value]) => ({ type: ck(`CKA_${name}`), value: value ? yes : no }));
}
