import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign, verify } from 'node:crypto';

/** Prefix of an Ed25519 private key in PKCS #8, before its 32 bytes (RFC 8410, section 7). */
const PRIVATE = Buffer.from('302e020100300506032b657004220420', 'hex');
/** Prefix of an Ed25519 public key as SubjectPublicKeyInfo, before its 32 bytes (RFC 8410, section 4). */
const PUBLIC = Buffer.from('302a300506032b6570032100', 'hex');
/** Form of either half of a key: 32 bytes in hexadecimal. */
const keyForm = /^[0-9a-f]{64}$/iu;

/** Administration key pair (Ed25519), both halves in hexadecimal. */
export interface AdministrationKeyPair {
  /** Public half, for every configuration of the group: `administration.publicKey`. */
  readonly publicKey: string;
  /** Private half, for the hosts where the membership is changed: what `administration.key` refers to. */
  readonly privateKey: string;
}

/** Size of either half (bytes). */
const KEY_BYTES = 32;
const notHexadecimal = new Error('expected a private key of 64 hexadecimal digits');

/** Returns the value of a hexadecimal digit, given by its code. No text of a private key is made: it could not be wiped. */
function digitValue(digit: number): number {
  const value = digit <= 0x39 ? digit - 0x30 : (digit | 0x20) - 0x61 + 10;
  if (value < 0 || value > 15 || (digit > 0x39 && value < 10)) throw notHexadecimal;
  return value;
}

function hexOf(part: string | undefined): string {
  return Buffer.from(part ?? '', 'base64url').toString('hex');
}

/** Generates an administration key pair. */
export function generateAdministrationKey(): AdministrationKeyPair {
  const { d, x } = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' });
  return { publicKey: hexOf(x), privateKey: hexOf(d) };
}

/** Private administration key, ready to sign. */
export class SigningKey {
  readonly #key: KeyObject;
  /** Public half, in hexadecimal. */
  readonly publicKey: string;

  /** Takes the private half in hexadecimal. Throws an error that does not show it if it is no key. */
  constructor(privateKey: Buffer) {
    const der = Buffer.concat([PRIVATE, Buffer.alloc(KEY_BYTES)]);
    try {
      if (privateKey.length !== 2 * KEY_BYTES) throw notHexadecimal;
      for (const [index, digit] of privateKey.entries()) {
        const at = PRIVATE.length + (index >> 1);
        der[at] = (der[at] ?? 0) * 16 + digitValue(digit);
      }
      this.#key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    } finally {
      der.fill(0);
    }
    this.publicKey = hexOf(createPublicKey(this.#key).export({ format: 'jwk' }).x);
  }

  sign(statement: Uint8Array): string {
    return sign(null, statement, this.#key).toString('hex');
  }
}

/** Checks an Ed25519 signature; both it and the public key are in hexadecimal. */
export function verifyStatement(publicKey: string, statement: Uint8Array, signature: string): boolean {
  if (!keyForm.test(publicKey)) return false;
  const key = createPublicKey({
    key: Buffer.concat([PUBLIC, Buffer.from(publicKey, 'hex')]),
    format: 'der',
    type: 'spki',
  });
  return verify(null, statement, key, Buffer.from(signature, 'hex'));
}
