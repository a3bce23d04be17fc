// Uses node-webcrypto-p11 as applications do, while members are killed.
const assert = require('node:assert/strict');
const nodeCrypto = require('node:crypto');
const { readFileSync } = require('node:fs');
const { Crypto } = require('node-webcrypto-p11');
const { runRounds } = require('./rounds.cjs');

const request = JSON.parse(readFileSync(0, 'utf8'));
const text = Buffer.from('text of a message');

const bytes = (buffer) => Buffer.from(buffer);

const checks = {
  async 'ten signatures at once'(crypto) {
    const { subtle } = crypto;
    const keys = await subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify']);
    const algorithm = { name: 'ECDSA', hash: 'SHA-256' };
    const texts = Array.from({ length: 10 }, (_, at) => Buffer.from(`text ${at}`));
    const signatures = await Promise.all(texts.map((each) => subtle.sign(algorithm, keys.privateKey, each)));
    for (const [at, signature] of signatures.entries())
      assert.equal(await subtle.verify(algorithm, keys.publicKey, signature, texts[at]), true);
    assert.equal(await subtle.verify(algorithm, keys.publicKey, signatures[0], texts[1]), false);
  },

  async 'signatures of several keys at once are never mixed'(crypto) {
    const { subtle } = crypto;
    const hash = 'SHA-256';
    const rsa = await subtle.generateKey(
      { name: 'RSASSA-PKCS1-v1_5', hash, modulusLength: 1024, publicExponent: new Uint8Array([1, 0, 1]) },
      false,
      ['sign', 'verify'],
    );
    const ec = await subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify']);
    const mac = await subtle.generateKey({ name: 'HMAC', hash }, false, ['sign', 'verify']);
    const all = [
      [{ name: 'RSASSA-PKCS1-v1_5' }, rsa.privateKey, rsa.publicKey],
      [{ name: 'HMAC' }, mac, mac],
      [{ name: 'ECDSA', hash }, ec.privateKey, ec.publicKey],
    ];
    const jobs = Array.from({ length: 12 }, (_, at) => [...all[at % 3], Buffer.from(`text ${at}`)]);
    const signatures = await Promise.all(
      jobs.map(([algorithm, key, , each]) => crypto.subtle.sign(algorithm, key, each)),
    );
    for (const [at, [algorithm, , key, each]] of jobs.entries())
      assert.equal(await subtle.verify(algorithm, key, signatures[at], each), true);
  },

  async 'AES: generated, encrypted, exported, imported, decrypted'(crypto) {
    const { subtle } = crypto;
    for (const name of ['AES-CBC', 'AES-GCM']) {
      const algorithm = { name, iv: nodeCrypto.randomBytes(name === 'AES-GCM' ? 12 : 16) };
      const key = await subtle.generateKey({ name, length: 256 }, true, ['encrypt', 'decrypt']);
      const encrypted = await subtle.encrypt(algorithm, key, text);
      const raw = await subtle.exportKey('raw', key);
      const same = await nodeCrypto.webcrypto.subtle.importKey('raw', raw, name, false, ['decrypt']);
      assert.deepEqual(bytes(await nodeCrypto.webcrypto.subtle.decrypt(algorithm, same, encrypted)), text);
      const imported = await subtle.importKey('raw', raw, name, true, ['decrypt']);
      assert.deepEqual(bytes(await subtle.decrypt(algorithm, imported, encrypted)), text);
    }
  },

  async 'RSA-OAEP and PSS'(crypto) {
    const { subtle } = crypto;
    const publicExponent = new Uint8Array([1, 0, 1]);
    const oaep = await subtle.generateKey(
      { name: 'RSA-OAEP', hash: 'SHA-1', modulusLength: 1024, publicExponent },
      false,
      ['encrypt', 'decrypt'],
    );
    const encrypted = await subtle.encrypt({ name: 'RSA-OAEP' }, oaep.publicKey, text);
    assert.deepEqual(bytes(await subtle.decrypt({ name: 'RSA-OAEP' }, oaep.privateKey, encrypted)), text);
    const pss = await subtle.generateKey(
      { name: 'RSA-PSS', hash: 'SHA-256', modulusLength: 1024, publicExponent },
      false,
      ['sign', 'verify'],
    );
    const signature = await subtle.sign({ name: 'RSA-PSS', saltLength: 32 }, pss.privateKey, text);
    assert.equal(await subtle.verify({ name: 'RSA-PSS', saltLength: 32 }, pss.publicKey, signature, text), true);
    const jwk = await subtle.exportKey('jwk', pss.publicKey);
    const key = nodeCrypto.createPublicKey({ key: jwk, format: 'jwk' });
    assert.ok(
      nodeCrypto.verify(
        'sha256',
        text,
        { key, padding: nodeCrypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 },
        bytes(signature),
      ),
    );
  },

  async 'ECDH: keys and bits'(crypto) {
    const { subtle } = crypto;
    const own = await subtle.generateKey({ name: 'ECDH', namedCurve: 'P-256' }, false, ['deriveBits', 'deriveKey']);
    const other = await subtle.generateKey({ name: 'ECDH', namedCurve: 'P-256' }, false, ['deriveBits', 'deriveKey']);
    const one = await subtle.deriveBits({ name: 'ECDH', public: other.publicKey }, own.privateKey, 256);
    const two = await subtle.deriveBits({ name: 'ECDH', public: own.publicKey }, other.privateKey, 256);
    assert.deepEqual(bytes(one), bytes(two));
    const key = await subtle.deriveKey(
      { name: 'ECDH', public: other.publicKey },
      own.privateKey,
      { name: 'AES-CBC', length: 256 },
      true,
      ['encrypt'],
    );
    assert.deepEqual(bytes(await subtle.exportKey('raw', key)), bytes(one));
  },

  async 'keys are wrapped and unwrapped'(crypto) {
    const { subtle } = crypto;
    const iv = nodeCrypto.randomBytes(16);
    const by = await subtle.generateKey({ name: 'AES-CBC', length: 256 }, true, [
      'wrapKey',
      'unwrapKey',
      'encrypt',
      'decrypt',
    ]);
    const key = await subtle.generateKey({ name: 'AES-CBC', length: 128 }, true, ['encrypt', 'decrypt']);
    const wrapped = await subtle.wrapKey('raw', key, by, { name: 'AES-CBC', iv });
    const back = await subtle.unwrapKey('raw', wrapped, by, { name: 'AES-CBC', iv }, 'AES-CBC', true, ['decrypt']);
    const encrypted = await subtle.encrypt({ name: 'AES-CBC', iv }, key, text);
    assert.deepEqual(bytes(await subtle.decrypt({ name: 'AES-CBC', iv }, back, encrypted)), text);
  },

  async 'digests and random values'(crypto) {
    assert.deepEqual(
      bytes(await crypto.subtle.digest('SHA-256', text)),
      nodeCrypto.createHash('sha256').update(text).digest(),
    );
    assert.ok(crypto.getRandomValues(new Uint8Array(20)).some((each) => each !== 0));
  },

  async 'keys are stored, listed, found again and removed'(crypto) {
    const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify']);
    const index = await crypto.keyStorage.setItem(keys.privateKey);
    const indexes = await crypto.keyStorage.keys();
    assert.ok(indexes.includes(index));
    const found = await crypto.keyStorage.getItem(index);
    const signature = await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, found, text);
    assert.equal(await crypto.subtle.verify({ name: 'ECDSA', hash: 'SHA-256' }, keys.publicKey, signature, text), true);
    await crypto.keyStorage.removeItem(index);
    assert.equal((await crypto.keyStorage.keys()).includes(index), false);
  },

  async 'certificates are stored and read'(crypto) {
    const certificate = await crypto.certStorage.importCert(
      'raw',
      Buffer.from(request.certificate, 'base64'),
      { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
      ['verify'],
    );
    const index = await crypto.certStorage.setItem(certificate);
    assert.ok((await crypto.certStorage.keys()).includes(index));
    const found = await crypto.certStorage.getItem(index);
    assert.equal(found.subjectName, certificate.subjectName);
    await crypto.certStorage.removeItem(index);
  },
};

async function main() {
  const crypto = new Crypto({ library: request.path, slot: 0, pin: request.pin, readWrite: true });
  await runRounds(crypto.slot.module, checks, crypto);
  // Stores a key for the next process.
  const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify']);
  console.log(`stored ${await crypto.keyStorage.setItem(keys.privateKey)}`);
  crypto.close();
}

async function again() {
  const crypto = new Crypto({ library: request.path, slot: 0, pin: request.pin, readWrite: true });
  const key = await crypto.keyStorage.getItem(request.stored);
  const signature = await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, key, text);
  console.log(`signed ${bytes(signature).length}`);
  crypto.close();
}

(request.stored === undefined ? main() : again()).catch((error) => {
  console.error(error, error.cause);
  process.exit(1);
});
