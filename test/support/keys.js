// Keys made by node:crypto: as objects that can be created on any number of tokens, and as node:crypto's own key
// objects that check results.
import { createSecretKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import pkcs11js from 'pkcs11js';

const hex = (bytes) => `hex:${Buffer.from(bytes).toString('hex')}`;
const fromUrl = (text) => Buffer.from(text, 'base64url');
const curves = { 'P-256': '06082a8648ce3d030107', 'P-384': '06052b81040022', 'P-521': '06052b81040023' };

function derString(bytes) {
  return Buffer.concat([Buffer.from(bytes.length < 0x80 ? [0x04, bytes.length] : [0x04, 0x81, bytes.length]), bytes]);
}

function common(label, id, objectClass, keyType) {
  return { CLASS: objectClass, KEY_TYPE: keyType, TOKEN: true, LABEL: label, ID: hex(id) };
}

const privateUse = { PRIVATE: true, SENSITIVE: true, EXTRACTABLE: true };

/** Makes an RSA key pair; `objects` are the private and the public key. */
export function rsaPair(label, id = randomBytes(4), bits = 2048) {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: bits });
  const jwk = privateKey.export({ format: 'jwk' });
  const part = (name) => hex(fromUrl(jwk[name]));
  const shared = { MODULUS: part('n'), PUBLIC_EXPONENT: part('e') };
  const objects = [
    {
      ...common(label, id, pkcs11js.CKO_PRIVATE_KEY, pkcs11js.CKK_RSA),
      ...privateUse,
      ...shared,
      SIGN: true,
      DECRYPT: true,
      PRIVATE_EXPONENT: part('d'),
      PRIME_1: part('p'),
      PRIME_2: part('q'),
      EXPONENT_1: part('dp'),
      EXPONENT_2: part('dq'),
      COEFFICIENT: part('qi'),
    },
    {
      ...common(label, id, pkcs11js.CKO_PUBLIC_KEY, pkcs11js.CKK_RSA),
      ...shared,
      PRIVATE: false,
      VERIFY: true,
      ENCRYPT: true,
    },
  ];
  return { label, id, privateKey, publicKey, objects };
}

/** Makes an EC key pair on a NIST curve. */
export function ecPair(label, id = randomBytes(4), curve = 'P-256') {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: curve });
  const jwk = privateKey.export({ format: 'jwk' });
  const point = Buffer.concat([Buffer.from([4]), fromUrl(jwk.x), fromUrl(jwk.y)]);
  const params = { EC_PARAMS: `hex:${curves[curve]}` };
  const objects = [
    {
      ...common(label, id, pkcs11js.CKO_PRIVATE_KEY, pkcs11js.CKK_EC),
      ...privateUse,
      ...params,
      SIGN: true,
      DERIVE: true,
      VALUE: hex(fromUrl(jwk.d)),
    },
    {
      ...common(label, id, pkcs11js.CKO_PUBLIC_KEY, pkcs11js.CKK_EC),
      ...params,
      PRIVATE: false,
      VERIFY: true,
      EC_POINT: hex(derString(point)),
    },
  ];
  return { label, id, privateKey, publicKey, objects };
}

/** Makes an Ed25519 key pair, as SoftHSM holds it. */
export function edPair(label, id = randomBytes(4)) {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const jwk = privateKey.export({ format: 'jwk' });
  const params = {
    EC_PARAMS: `hex:${Buffer.concat([Buffer.from([0x13, 12]), Buffer.from('edwards25519')]).toString('hex')}`,
  };
  const objects = [
    {
      ...common(label, id, pkcs11js.CKO_PRIVATE_KEY, 0x40),
      ...privateUse,
      ...params,
      SIGN: true,
      VALUE: hex(fromUrl(jwk.d)),
    },
    {
      ...common(label, id, pkcs11js.CKO_PUBLIC_KEY, 0x40),
      ...params,
      PRIVATE: false,
      VERIFY: true,
      EC_POINT: hex(derString(fromUrl(jwk.x))),
    },
  ];
  return { label, id, privateKey, publicKey, objects };
}

/** Makes a secret key: AES, or a generic secret for HMAC. */
export function secretKey(label, id = randomBytes(4), { type = 'AES', value = randomBytes(32) } = {}) {
  const use =
    type === 'AES' ? { ENCRYPT: true, DECRYPT: true, SIGN: true, VERIFY: true } : { SIGN: true, VERIFY: true };
  const objects = [
    {
      ...common(label, id, pkcs11js.CKO_SECRET_KEY, pkcs11js[`CKK_${type}`]),
      ...privateUse,
      ...use,
      VALUE: hex(value),
    },
  ];
  return { label, id, value, key: createSecretKey(value), objects };
}
