// node-webcrypto-p11 on a group: `pkcs11-ha/register` replaces pkcs11js's class by the class for virtual slots.
//
//   npm install pkcs11-ha pkcs11js node-webcrypto-p11
//   GROUP=group.yaml PIN=… node webcrypto.js    form the group first: see createGroup in the README
import 'pkcs11-ha/register';
import webcrypto from 'node-webcrypto-p11';

const { GROUP = 'group.yaml', PIN = '' } = process.env;
const crypto = new webcrypto.Crypto({ library: GROUP, slot: 0, pin: PIN, readWrite: true });
const { subtle } = crypto;
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const keys = await subtle.generateKey(algorithm, false, ['sign', 'verify']);
const index = await crypto.keyStorage.setItem(keys.privateKey);

// Signs all texts at the same time on one session; each signature is an operation of its own on any member.
const texts = Array.from({ length: 10 }, (_, at) => Buffer.from(`text ${at}`));
const signatures = await Promise.all(texts.map((text) => subtle.sign(algorithm, keys.privateKey, text)));
const verified = await Promise.all(
  texts.map((text, at) => subtle.verify(algorithm, keys.publicKey, signatures[at], text)),
);
console.log(`verified: ${verified.filter(Boolean).length} of ${texts.length}`);

await crypto.keyStorage.removeItem(index);
crypto.close();
