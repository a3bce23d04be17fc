import { createHmac } from 'node:crypto';
import pkcs11 from '../../src/faces/pkcs11js/index.js';
import { type ObjectSpec, type PairSpec, rsaPair, type SecretSpec, secretKey } from './keys.js';
import type { Handle, LoadedGroup } from './library.js';

const id = (byte: number): Buffer => Buffer.from([byte]);

/** Keys that the tests of pkcs11js's class find on all members. */
export const mac: SecretSpec = secretKey('mac', id(1), { type: 'GENERIC_SECRET' });
export const other: SecretSpec = secretKey('other', id(2), { type: 'GENERIC_SECRET' });
export const aes: SecretSpec = secretKey('aes', id(3));
export const rsa: PairSpec = rsaPair('rsa', id(4));
export const objects: readonly ObjectSpec[] = [mac, other, aes, rsa].flatMap((key) => key.objects);

export const HMAC: { readonly mechanism: number } = { mechanism: pkcs11.CKM_SHA256_HMAC };
export const SHA256: { readonly mechanism: number } = { mechanism: pkcs11.CKM_SHA256 };
export const text: Buffer = Buffer.from('text');

/** Returns a buffer for the output of a call. */
export const room = (): Buffer => Buffer.alloc(1024);

/** Computes the HMAC that the token has to give. */
export function macOf(value: Buffer, ...parts: readonly Buffer[]): Buffer {
  const hmac = createHmac('sha256', value);
  for (const part of parts) hmac.update(part);
  return hmac.digest();
}

/** Signs with HMAC in two calls, as applications of pkcs11js do. */
export function sign({ lib }: LoadedGroup, session: Handle, key: Handle, data: Buffer = text): Buffer {
  lib.C_SignInit(session, HMAC, key);
  return lib.C_Sign(session, data, room());
}
