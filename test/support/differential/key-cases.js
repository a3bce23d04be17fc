// Cases of keys: generated, derived, wrapped and unwrapped; and the login for one operation.

const value = (t, length) => ({ type: t.p.CKA_VALUE_LEN, value: length });
const label = (t, text) => ({ type: t.p.CKA_LABEL, value: text });
const yes = (t, ...names) => names.map((name) => ({ type: t.p[`CKA_${name}`], value: true }));
const p256 = Buffer.from('06082a8648ce3d030107', 'hex');

function read(t, session, object, ...names) {
  for (const name of names) t.call('C_GetAttributeValue', session, object, [{ type: t.p[`CKA_${name}`] }]);
}

const secretTemplate = (t, more = []) => [
  { type: t.p.CKA_CLASS, value: t.p.CKO_SECRET_KEY },
  { type: t.p.CKA_KEY_TYPE, value: t.p.CKK_AES },
  label(t, 'came of a case'),
  ...more,
];

function encryptZeros(t, session, key) {
  t.lib.C_EncryptInit(session, { mechanism: t.p.CKM_AES_ECB }, key);
  return t.lib.C_Encrypt(session, Buffer.alloc(16), Buffer.alloc(16)).toString('hex');
}

export const keyCases = [
  {
    name: 'C_GenerateKey: AES in the session, used',
    run(t) {
      const session = t.session();
      const key = t.call('C_GenerateKey', session, { mechanism: t.p.CKM_AES_KEY_GEN }, [
        value(t, 32),
        label(t, 'generated'),
        ...yes(t, 'ENCRYPT', 'DECRYPT'),
      ]);
      read(
        t,
        session,
        key,
        'CLASS',
        'KEY_TYPE',
        'VALUE_LEN',
        'TOKEN',
        'LABEL',
        'LOCAL',
        'KEY_GEN_MECHANISM',
        'ENCRYPT',
      );
      t.lib.C_EncryptInit(session, { mechanism: t.p.CKM_AES_ECB }, key);
      t.callForLength('C_Encrypt', session, Buffer.alloc(32), Buffer.alloc(64));
    },
  },
  {
    name: 'C_GenerateKey: on the token, destroyed',
    run(t) {
      const session = t.session();
      const key = t.call('C_GenerateKey', session, { mechanism: t.p.CKM_AES_KEY_GEN }, [
        value(t, 16),
        label(t, 'generated'),
        ...yes(t, 'TOKEN', 'ENCRYPT'),
      ]);
      read(t, session, key, 'TOKEN', 'LOCAL', 'VALUE_LEN', 'NEVER_EXTRACTABLE', 'ALWAYS_SENSITIVE');
      t.call('C_DestroyObject', session, key);
    },
  },
  {
    name: 'C_GenerateKey: what it does not take',
    run(t) {
      const session = t.session();
      const { p } = t;
      const generate = (mechanism, template) => t.call('C_GenerateKey', session, { mechanism }, template);
      generate(p.CKM_AES_KEY_GEN, []);
      generate(p.CKM_AES_KEY_GEN, [value(t, 5)]);
      generate(p.CKM_AES_CBC, [value(t, 16)]);
      generate(0x80001234, [value(t, 16)]);
      generate(p.CKM_RSA_PKCS_KEY_PAIR_GEN, [value(t, 16)]);
      generate(p.CKM_AES_KEY_GEN, [value(t, 16), { type: p.CKA_CLASS, value: p.CKO_DATA }]);
      generate(p.CKM_AES_KEY_GEN, [value(t, 16), { type: p.CKA_KEY_TYPE, value: p.CKK_DES3 }]);
    },
  },
  {
    name: 'C_GenerateKey: callback and promise',
    async run(t) {
      const session = t.session();
      const template = [value(t, 16), label(t, 'generated')];
      await t.callWith('C_GenerateKey', session, { mechanism: t.p.CKM_AES_KEY_GEN }, template);
      await t.callAsync('C_GenerateKey', session, { mechanism: t.p.CKM_AES_KEY_GEN }, template);
      await t.callAsync('C_GenerateKey', session, { mechanism: t.p.CKM_AES_KEY_GEN }, [value(t, 5)]);
    },
  },
  {
    name: 'C_GenerateKeyPair: EC, used',
    run(t) {
      const session = t.session();
      const { p } = t;
      const pair = t.call(
        'C_GenerateKeyPair',
        session,
        { mechanism: p.CKM_EC_KEY_PAIR_GEN },
        [{ type: p.CKA_EC_PARAMS, value: p256 }, label(t, 'pair'), ...yes(t, 'VERIFY')],
        [label(t, 'pair'), ...yes(t, 'SIGN')],
      );
      t.note(Object.keys(pair).join(' '));
      read(t, session, pair.publicKey, 'CLASS', 'KEY_TYPE', 'EC_PARAMS', 'VERIFY', 'LOCAL');
      read(t, session, pair.privateKey, 'CLASS', 'KEY_TYPE', 'SIGN', 'SENSITIVE', 'LOCAL');
      t.lib.C_SignInit(session, { mechanism: p.CKM_ECDSA }, pair.privateKey);
      const signature = t.lib.C_Sign(session, Buffer.alloc(32, 1), Buffer.alloc(64));
      t.call('C_VerifyInit', session, { mechanism: p.CKM_ECDSA }, pair.publicKey);
      t.call('C_Verify', session, Buffer.alloc(32, 1), signature);
    },
  },
  {
    name: 'C_GenerateKeyPair: RSA on the token, with a callback',
    async run(t) {
      const session = t.session();
      const { p } = t;
      const pair = await t.callWith(
        'C_GenerateKeyPair',
        session,
        { mechanism: p.CKM_RSA_PKCS_KEY_PAIR_GEN },
        [
          { type: p.CKA_MODULUS_BITS, value: 1024 },
          { type: p.CKA_PUBLIC_EXPONENT, value: Buffer.from([1, 0, 1]) },
          label(t, 'pair'),
          ...yes(t, 'TOKEN', 'VERIFY'),
        ],
        [label(t, 'pair'), ...yes(t, 'TOKEN', 'SIGN')],
      );
      read(t, session, pair.publicKey, 'MODULUS_BITS', 'TOKEN');
      t.call('C_DestroyObject', session, pair.publicKey);
      t.call('C_DestroyObject', session, pair.privateKey);
    },
  },
  {
    name: 'C_GenerateKeyPair: what it does not take',
    run(t) {
      const session = t.session();
      const { p } = t;
      const generate = (mechanism, own, other) => t.call('C_GenerateKeyPair', session, { mechanism }, own, other);
      generate(p.CKM_RSA_PKCS_KEY_PAIR_GEN, [], []);
      generate(p.CKM_EC_KEY_PAIR_GEN, [], []);
      generate(p.CKM_EC_KEY_PAIR_GEN, [{ type: p.CKA_EC_PARAMS, value: Buffer.from('nonsense') }], []);
      generate(p.CKM_AES_KEY_GEN, [], []);
      generate(0x80001234, [], []);
    },
  },
  {
    name: 'C_DeriveKey: ECDH',
    async run(t) {
      const session = t.session();
      const { p } = t;
      const own = t.find(session, 'ec', p.CKO_PRIVATE_KEY);
      const point = t.lib.C_GetAttributeValue(session, t.find(session, 'ec', p.CKO_PUBLIC_KEY), [
        { type: p.CKA_EC_POINT },
      ])[0].value;
      const mechanism = {
        mechanism: p.CKM_ECDH1_DERIVE,
        parameter: { type: p.CK_PARAMS_EC_DH, kdf: 1, publicData: point },
      };
      const template = secretTemplate(t, [
        value(t, 32),
        ...yes(t, 'ENCRYPT', 'EXTRACTABLE'),
        { type: p.CKA_SENSITIVE, value: false },
      ]);
      const key = t.call('C_DeriveKey', session, mechanism, own, template);
      t.note(encryptZeros(t, session, key));
      read(t, session, key, 'VALUE', 'VALUE_LEN', 'LOCAL');
      await t.callWith('C_DeriveKey', session, mechanism, own, template);
      await t.callAsync('C_DeriveKey', session, mechanism, own, template);
      t.call('C_DeriveKey', session, mechanism, t.find(session, 'aes'), template);
      t.call(
        'C_DeriveKey',
        session,
        { ...mechanism, parameter: { ...mechanism.parameter, publicData: Buffer.alloc(5) } },
        own,
        template,
      );
      t.call('C_DeriveKey', session, { mechanism: p.CKM_ECDH1_DERIVE }, own, template);
    },
  },
  {
    name: 'C_WrapKey and C_UnwrapKey: AES',
    async run(t) {
      const session = t.session();
      const { p } = t;
      const by = t.find(session, 'wrapper');
      const key = t.find(session, 'aes');
      const mechanism = { mechanism: p.CKM_AES_KEY_WRAP };
      const wrapped = t.call('C_WrapKey', session, mechanism, by, key, Buffer.alloc(100));
      await t.callWith('C_WrapKey', session, mechanism, by, key, Buffer.alloc(100));
      await t.callAsync('C_WrapKey', session, mechanism, by, key, Buffer.alloc(100));
      t.call('C_WrapKey', session, mechanism, by, key, Buffer.alloc(0));
      t.call('C_WrapKey', session, mechanism, by, key, Buffer.alloc(5));
      const template = secretTemplate(t, yes(t, 'ENCRYPT'));
      const back = t.call('C_UnwrapKey', session, mechanism, by, wrapped, template);
      t.note(encryptZeros(t, session, back) === encryptZeros(t, session, key));
      await t.callWith('C_UnwrapKey', session, mechanism, by, wrapped, template);
      await t.callAsync('C_UnwrapKey', session, mechanism, by, wrapped, template);
    },
  },
  {
    name: 'C_WrapKey and C_UnwrapKey: what they refuse',
    run(t) {
      const session = t.session();
      const { p } = t;
      const by = t.find(session, 'wrapper');
      const key = t.find(session, 'aes');
      const mechanism = { mechanism: p.CKM_AES_KEY_WRAP };
      const template = secretTemplate(t);
      t.call('C_WrapKey', session, mechanism, key, by, Buffer.alloc(100));
      t.call('C_WrapKey', session, mechanism, by, t.find(session, 'kept inside'), Buffer.alloc(100));
      t.call('C_WrapKey', session, { mechanism: p.CKM_SHA256 }, by, key, Buffer.alloc(100));
      t.call('C_UnwrapKey', session, mechanism, by, Buffer.alloc(40, 1), template);
      t.call('C_UnwrapKey', session, mechanism, by, Buffer.alloc(7), template);
      t.call('C_UnwrapKey', session, mechanism, key, Buffer.alloc(40), template);
      t.call('C_UnwrapKey', session, mechanism, by, Buffer.alloc(40), []);
    },
  },
  {
    name: 'a key that is sensitive, and one that may not be taken out',
    run(t) {
      const session = t.session();
      const key = t.lib.C_GenerateKey(session, { mechanism: t.p.CKM_AES_KEY_GEN }, [
        value(t, 16),
        label(t, 'inside'),
        ...yes(t, 'SENSITIVE'),
        { type: t.p.CKA_EXTRACTABLE, value: false },
      ]);
      read(t, session, key, 'VALUE', 'SENSITIVE', 'EXTRACTABLE', 'ALWAYS_SENSITIVE', 'NEVER_EXTRACTABLE');
      t.call(
        'C_WrapKey',
        session,
        { mechanism: t.p.CKM_AES_KEY_WRAP },
        t.find(session, 'wrapper'),
        key,
        Buffer.alloc(99),
      );
    },
  },
  {
    name: 'a key that asks for the PIN each time',
    run(t) {
      const session = t.session();
      const { p } = t;
      const key = t.find(session, 'asking', p.CKO_PRIVATE_KEY);
      const mechanism = { mechanism: p.CKM_SHA256_RSA_PKCS };
      const text = Buffer.from('text');
      t.call('C_SignInit', session, mechanism, key);
      t.call('C_Sign', session, text, Buffer.alloc(256));
      t.call('C_SignInit', session, mechanism, key);
      t.call('C_Login', session, p.CKU_CONTEXT_SPECIFIC, 'wrong');
      t.call('C_Login', session, p.CKU_CONTEXT_SPECIFIC, t.pin);
      t.call('C_Sign', session, text, Buffer.alloc(256));
      t.call('C_SignInit', session, mechanism, key);
      t.call('C_Login', session, p.CKU_CONTEXT_SPECIFIC, t.pin);
      t.call('C_SignUpdate', session, text);
      t.call('C_SignFinal', session, Buffer.alloc(256));
      t.call('C_Login', session, p.CKU_CONTEXT_SPECIFIC, t.pin);
    },
  },
];
