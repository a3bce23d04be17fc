// Operations that are measured, in a form that every contestant turns into its own call.
import pkcs11js from 'pkcs11js';
import { ecPair, edPair, rsaPair, secretKey } from '../../test/support/keys.js';

const CKM_EDDSA = 0x1057;
const hash = Buffer.alloc(32, 5);
const block = Buffer.alloc(1024, 5);
const iv = Buffer.alloc(16, 1);
const gcm = { type: pkcs11js.CK_PARAMS_AES_GCM, iv: Buffer.alloc(12, 1), ivBits: 96, tagBits: 128 };

/** Operations. `verb` names the kind of call; `size` is a sufficient size of the output (bytes). */
export const operations = [
  {
    name: 'RSA-2048',
    verb: 'sign',
    key: 'rsa',
    isPair: true,
    mechanism: pkcs11js.CKM_SHA256_RSA_PKCS,
    data: hash,
    size: 256,
  },
  { name: 'ECDSA P-256', verb: 'sign', key: 'ec', isPair: true, mechanism: pkcs11js.CKM_ECDSA, data: hash, size: 64 },
  { name: 'Ed25519', verb: 'sign', key: 'ed', isPair: true, mechanism: CKM_EDDSA, data: hash, size: 64 },
  {
    name: 'AES-256-CBC 1 KiB',
    verb: 'encrypt',
    key: 'aes',
    mechanism: pkcs11js.CKM_AES_CBC_PAD,
    parameter: iv,
    data: block,
    size: 1056,
  },
  {
    name: 'AES-256-GCM 1 KiB',
    verb: 'encrypt',
    key: 'aes',
    mechanism: pkcs11js.CKM_AES_GCM,
    parameter: gcm,
    data: block,
    size: 1056,
  },
  { name: 'HMAC-SHA256', verb: 'sign', key: 'hmac', mechanism: pkcs11js.CKM_SHA256_HMAC, data: block, size: 32 },
  { name: 'random 32 B', verb: 'random', size: 32 },
  { name: 'digest 1 MiB', verb: 'digest', mechanism: pkcs11js.CKM_SHA256, data: Buffer.alloc(2 ** 20, 5), size: 32 },
];

export const operationOf = (name) => operations.find((each) => each.name === name);

/** Makes the keys of all operations, as objects for any number of tokens. */
export function makeKeys() {
  const hmac = secretKey('hmac', undefined, { type: 'GENERIC_SECRET' });
  return [rsaPair('rsa'), ecPair('ec'), edPair('ed'), secretKey('aes'), hmac].flatMap((key) => key.objects);
}

/** Returns a mechanism in pkcs11js's form, which the promise API accepts too. */
export const mechanismOf = ({ mechanism, parameter }) =>
  parameter === undefined ? { mechanism } : { mechanism, parameter };
/** Returns the class of the operation's key; tells a private key from the public key of the same label. */
export const classOf = ({ isPair }) => (isPair ? pkcs11js.CKO_PRIVATE_KEY : pkcs11js.CKO_SECRET_KEY);
