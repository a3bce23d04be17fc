import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import type { PublicMaterial } from '../../core/base/port.js';
import { CKK } from '../../spec/codes.js';

export function sha256(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}

function der(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(contents);
  const length =
    content.length < 0x80
      ? [content.length]
      : content.length < 0x100
        ? [0x81, content.length]
        : [0x82, content.length >> 8, content.length & 0xff];
  return Buffer.concat([Uint8Array.of(tag, ...length), content]);
}

const ecPublicKey = Buffer.from('06072a8648ce3d0201', 'hex');
// Maps the point's length to the OID of the Edwards curve: tokens name the curve in different ways.
const edwards: ReadonlyMap<number, string> = new Map([
  [32, '06032b6570'],
  [57, '06032b6571'],
]);

const dsaPublicKey = Buffer.from('06072a8648ce380401', 'hex');

/** Encodes a non-negative DER integer. */
function derInteger(bytes: Uint8Array): Buffer {
  return der(0x02, (bytes[0] ?? 0x80) >= 0x80 ? Uint8Array.of(0) : new Uint8Array(), bytes);
}

/** Builds a key from a SubjectPublicKeyInfo (RFC 5280, section 4.1; RFC 3279; RFC 5480; RFC 8410). */
function publicKeyOf({ keyType, params, point, prime, subprime, base }: PublicMaterial): KeyObject | undefined {
  let algorithm = der(0x30, Buffer.from(edwards.get(point.length) ?? '', 'hex'));
  if (keyType === CKK.ec) algorithm = der(0x30, ecPublicKey, params);
  if (keyType === CKK.dsa)
    algorithm = der(0x30, dsaPublicKey, der(0x30, derInteger(prime), derInteger(subprime), derInteger(base)));
  const key = keyType === CKK.dsa ? derInteger(point) : point;
  try {
    return createPublicKey({
      key: der(0x30, algorithm, der(0x03, Uint8Array.of(0), key)),
      format: 'der',
      type: 'spki',
    });
  } catch {
    return undefined;
  }
}

/** Verifies a signature, for core's port; undefined for a curve that OpenSSL does not know. */
export function verifySignature(
  material: PublicMaterial,
  message: Uint8Array,
  signature: Uint8Array,
): boolean | undefined {
  const key = publicKeyOf(material);
  if (key === undefined) return undefined;
  return material.keyType === CKK.ec || material.keyType === CKK.dsa
    ? verify('sha256', message, { key, dsaEncoding: 'ieee-p1363' }, signature)
    : verify(null, message, key, signature);
}
