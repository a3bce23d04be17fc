/** Tells whether two byte strings are equal. Takes a time that depends on the bytes: not for secrets. */
export function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}
