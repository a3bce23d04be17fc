/** Tells whether two byte strings are equal. Not for secrets: the time it takes depends on the bytes. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
