/** Encodes a handle as pkcs11js does: eight bytes in the machine's order, in a new Buffer each time. */
export function handleOf(handle: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUIntLE(handle, 0, 6);
  return bytes;
}
