/** A handle as pkcs11js gives it: eight bytes in the machine's order, a new Buffer each time. */
export function handleOf(handle: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUIntLE(handle, 0, 6);
  return bytes;
}
