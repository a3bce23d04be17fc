import type { Attribute } from '../../spec/attribute.js';
import { CKA } from '../../spec/codes.js';
import { RESERVED_LABEL } from '../objects/identity.js';

/** Label of tombstones, before the handle and the time. */
const GONE = `${RESERVED_LABEL}gone `;
/** Form of a tombstone's label: handle and time in hexadecimal. */
const goneLabel = /^pkcs11-ha:gone ([0-9a-f]{12}) ([0-9a-f]{1,16})$/u;

/** Attributes that are read of key records: the value, and the label that tells a tombstone. */
export const keyRecordTypes: readonly number[] = [CKA.value, CKA.label];

/**
 * Returns the label that makes the key record of a destroyed key its tombstone: proof that the key was destroyed, and
 * which key it was. A label can be changed in place, at a cost that does not grow with the number of objects.
 */
export function tombstoneLabel(handle: number, time: number): Attribute {
  const text = `${GONE}${handle.toString(16).padStart(12, '0')} ${Math.floor(time).toString(16)}`;
  return { type: CKA.label, value: Buffer.from(text) };
}

/** Returns the time of the destroy that a tombstone's label tells; undefined for the label of another record. */
export function destroyedAt(label: Uint8Array | undefined): number | undefined {
  const time = goneLabel.exec(Buffer.from(label ?? []).toString('latin1'))?.[2];
  return time === undefined ? undefined : Number.parseInt(time, 16);
}
