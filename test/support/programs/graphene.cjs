// Uses graphene-pk11 as applications do, while members are killed.
const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { readFileSync } = require('node:fs');
const graphene = require('graphene-pk11');
const { runRounds } = require('./rounds.cjs');

const request = JSON.parse(readFileSync(0, 'utf8'));
const { KeyGenMechanism, ObjectClass, KeyType, NamedCurve, SessionFlag } = graphene;

const asPromise = (work) =>
  new Promise((resolve, reject) => work((error, result) => (error ? reject(error) : resolve(result))));

const checks = {
  'slots, tokens, mechanisms'(module) {
    // Counts the group's slot and those of the members that serve.
    const slots = module.getSlots(true);
    assert.ok(slots.length >= 2);
    const slot = slots.items(0);
    const token = slot.getToken();
    assert.equal(token.label.trim(), 'differential');
    assert.ok(slot.flags & graphene.SlotFlag.TOKEN_PRESENT);
    const mechanisms = slot.getMechanisms();
    const names = Array.from({ length: mechanisms.length }, (_, at) => mechanisms.items(at).name);
    assert.ok(names.includes('AES_CBC_PAD') && names.includes('ECDSA'));
    assert.ok(mechanisms.items(0).maxKeySize >= mechanisms.items(0).minKeySize);
  },

  'objects of all classes'(_module, session) {
    const made = [
      session.create({
        class: ObjectClass.DATA,
        label: 'data',
        application: 'app',
        value: Buffer.from('value'),
        private: false,
      }),
      session.create({
        class: ObjectClass.CERTIFICATE,
        certType: graphene.CertificateType.X_509,
        label: 'certificate',
        id: Buffer.from([1]),
        subject: Buffer.from('subject'),
        value: Buffer.from('certificate'),
        private: false,
        token: true,
      }),
      session.create({
        class: ObjectClass.SECRET_KEY,
        keyType: KeyType.AES,
        label: 'made',
        value: crypto.randomBytes(16),
        token: true,
      }),
    ];
    assert.equal(made[0].toType().application, 'app');
    assert.equal(made[1].toType().value.toString(), 'certificate');
    assert.equal(made[2].class, ObjectClass.SECRET_KEY);
    made[2].setAttribute({ label: 'renamed' });
    const found = session.find({ label: 'renamed' });
    assert.equal(found.length, 1);
    assert.ok(found.items(0).handle.equals(made[2].handle));
    const copy = session.copy(made[2], { label: 'copy' });
    assert.equal(copy.toType().label, 'copy');
    let read = 0;
    session.find({ class: ObjectClass.SECRET_KEY }, (object) => {
      // Reads attributes while the search is open.
      assert.equal(typeof object.toType().label, 'string');
      read += 1;
    });
    assert.ok(read >= 3);
    for (const object of [...made, copy]) object.destroy();
    assert.equal(session.find({ label: 'renamed' }).length, 0);
  },

  async digests(_module, session) {
    const expected = crypto.createHash('sha256').update('text').digest();
    assert.deepEqual(session.createDigest('SHA256').once(Buffer.from('text')), expected);
    const digest = session.createDigest('SHA256');
    digest.update('te');
    digest.update('xt');
    assert.deepEqual(digest.final(), expected);
    const called = await asPromise((done) => session.createDigest('SHA256').once(Buffer.from('text'), done));
    assert.deepEqual(called, expected);
  },

  async 'key pairs: generated, signed with, verified'(_module, session) {
    const use = [
      { label: 'pair', verify: true, token: true },
      { label: 'pair', sign: true, token: true },
    ];
    const rsa = session.generateKeyPair(
      KeyGenMechanism.RSA,
      { ...use[0], modulusBits: 1024, publicExponent: Buffer.from([1, 0, 1]) },
      use[1],
    );
    const ec = await asPromise((done) =>
      session.generateKeyPair(
        KeyGenMechanism.EC,
        { ...use[0], paramsEC: NamedCurve.getByName('secp256r1').value },
        use[1],
        done,
      ),
    );
    const text = Buffer.from('text');
    const signature = session.createSign('SHA256_RSA_PKCS', rsa.privateKey).once(text);
    assert.equal(session.createVerify('SHA256_RSA_PKCS', rsa.publicKey).once(text, signature), true);
    assert.equal(session.createVerify('SHA256_RSA_PKCS', rsa.publicKey).once(text, Buffer.alloc(128)), false);
    const key = crypto.createPublicKey({
      format: 'jwk',
      key: {
        kty: 'RSA',
        n: rsa.publicKey.getAttribute('modulus').toString('base64url'),
        e: rsa.publicKey.getAttribute('publicExponent').toString('base64url'),
      },
    });
    assert.ok(crypto.verify('sha256', text, key, signature));
    const sign = session.createSign('SHA256_RSA_PKCS', rsa.privateKey);
    sign.update('te');
    sign.update('xt');
    assert.deepEqual(sign.final(), signature);
    const verify = session.createVerify('SHA256_RSA_PKCS', rsa.publicKey);
    verify.update('text');
    assert.equal(verify.final(signature), true);
    const hash = crypto.createHash('sha256').update(text).digest();
    const short = await asPromise((done) => session.createSign('ECDSA', ec.privateKey).once(hash, done));
    assert.equal(await asPromise((done) => session.createVerify('ECDSA', ec.publicKey).once(hash, short, done)), true);
    for (const each of [rsa, ec]) {
      each.publicKey.destroy();
      each.privateKey.destroy();
    }
  },

  async 'ciphers: once, as streams, with callbacks'(_module, session) {
    const value = crypto.randomBytes(32);
    const key = session
      .create({
        class: ObjectClass.SECRET_KEY,
        keyType: KeyType.AES,
        value,
        encrypt: true,
        decrypt: true,
        label: 'cipher',
      })
      .toType();
    const iv = crypto.randomBytes(16);
    const mechanism = { name: 'AES_CBC_PAD', params: iv };
    const text = crypto.randomBytes(1000);
    const cipher = crypto.createCipheriv('aes-256-cbc', value, iv);
    const expected = Buffer.concat([cipher.update(text), cipher.final()]);
    assert.deepEqual(session.createCipher(mechanism, key).once(text, Buffer.alloc(1100)), expected);
    const called = await asPromise((done) => session.createCipher(mechanism, key).once(text, Buffer.alloc(1100), done));
    assert.deepEqual(called, expected);
    const stream = session.createCipher(mechanism, key);
    const pieces = [];
    for (let at = 0; at < text.length; at += 70) pieces.push(stream.update(text.subarray(at, at + 70)));
    pieces.push(stream.final());
    assert.deepEqual(Buffer.concat(pieces), expected);
    const back = session.createDecipher(mechanism, key);
    const parts = [];
    for (let at = 0; at < expected.length; at += 90) parts.push(back.update(expected.subarray(at, at + 90)));
    parts.push(back.final());
    assert.deepEqual(Buffer.concat(parts), text);
    assert.deepEqual(session.createDecipher(mechanism, key).once(expected, Buffer.alloc(1100)), text);
    const gcm = { name: 'AES_GCM', params: new graphene.AesGcm240Params(iv.subarray(0, 12), Buffer.from('aad'), 128) };
    const sealed = session.createCipher(gcm, key).once(text, Buffer.alloc(1100));
    assert.deepEqual(session.createDecipher(gcm, key).once(sealed, Buffer.alloc(1100)), text);
    key.destroy();
  },

  async 'keys: generated, wrapped, unwrapped, derived'(_module, session) {
    const wrapper = session.generateKey(KeyGenMechanism.AES, { label: 'by', valueLen: 32, wrap: true, unwrap: true });
    const key = await asPromise((done) =>
      session.generateKey(
        KeyGenMechanism.AES,
        { label: 'key', valueLen: 16, encrypt: true, extractable: true, token: true },
        done,
      ),
    );
    const wrapped = session.wrapKey('AES_KEY_WRAP', wrapper, key);
    const template = { class: ObjectClass.SECRET_KEY, keyType: KeyType.AES, label: 'back', encrypt: true };
    const back = session.unwrapKey('AES_KEY_WRAP', wrapper, wrapped, template);
    const block = (by) => session.createCipher('AES_ECB', by).once(Buffer.alloc(16), Buffer.alloc(16));
    assert.deepEqual(block(back), block(key));
    const again = await asPromise((done) => session.unwrapKey('AES_KEY_WRAP', wrapper, wrapped, template, done));
    assert.deepEqual(block(again), block(key));
    const pair = session.generateKeyPair(
      KeyGenMechanism.EC,
      { label: 'ecdh', paramsEC: NamedCurve.getByName('secp256r1').value, derive: true },
      { label: 'ecdh', derive: true },
    );
    const other = crypto.createECDH('prime256v1');
    const point = other.generateKeys();
    const derived = session.deriveKey(
      { name: 'ECDH1_DERIVE', params: new graphene.EcdhParams(1, null, point) },
      pair.privateKey,
      {
        class: ObjectClass.SECRET_KEY,
        keyType: KeyType.AES,
        valueLen: 32,
        encrypt: true,
        extractable: true,
        sensitive: false,
      },
    );
    const own = pair.publicKey.getAttribute('pointEC').subarray(2);
    assert.deepEqual(derived.getAttribute('value'), other.computeSecret(own));
    key.destroy();
  },

  'a session beside, with its own login state'(module) {
    const slot = module.getSlots(0);
    const session = slot.open(SessionFlag.SERIAL_SESSION);
    assert.equal(session.state, 1);
    session.close();
  },

  'random bytes'(_module, session) {
    assert.equal(session.generateRandom(40).length, 40);
  },
};

async function main() {
  const module = graphene.Module.load(request.path, 'group');
  module.initialize();
  module.initialize();
  const slot = module.getSlots(0);
  const session = slot.open(SessionFlag.SERIAL_SESSION | SessionFlag.RW_SESSION);
  session.login(request.pin);
  await runRounds(module, checks, module, session);
  session.logout();
  session.close();
  module.finalize();
}

main().catch((error) => {
  console.error(error, error.cause);
  process.exit(1);
});
