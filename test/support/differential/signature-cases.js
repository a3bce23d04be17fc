// Cases of digests, signatures, MACs and their verification.

const text = Buffer.from('the quick brown fox jumps over the lazy dog');
const room = () => Buffer.alloc(1024);

const digests = ['MD5', 'SHA_1', 'SHA224', 'SHA256', 'SHA384', 'SHA512'];

function pss(t, hash, mgf, saltLen) {
  return { type: t.p.CK_PARAMS_RSA_PSS, hashAlg: t.p[hash], mgf: t.p[mgf], saltLen };
}

/** Mechanisms with their keys. `single`: without parts. `isRandom`: signatures differ each time. */
const signers = [
  { name: 'RSA_PKCS', key: 'rsa', single: true },
  { name: 'SHA1_RSA_PKCS', key: 'rsa' },
  { name: 'SHA256_RSA_PKCS', key: 'rsa' },
  { name: 'SHA512_RSA_PKCS', key: 'rsa' },
  { name: 'RSA_X_509', key: 'rsa', single: true, data: Buffer.alloc(256, 1) },
  {
    name: 'SHA256_RSA_PKCS_PSS',
    key: 'rsa',
    isRandom: true,
    parameter: (t) => pss(t, 'CKM_SHA256', 'CKG_MGF1_SHA256', 32),
  },
  {
    name: 'RSA_PKCS_PSS',
    key: 'rsa',
    isRandom: true,
    single: true,
    data: Buffer.alloc(32, 2),
    parameter: (t) => pss(t, 'CKM_SHA256', 'CKG_MGF1_SHA256', 32),
  },
  { name: 'ECDSA', key: 'ec', isRandom: true, single: true, data: Buffer.alloc(32, 2) },
  { name: 'SHA_1_HMAC', key: 'mac' },
  { name: 'SHA256_HMAC', key: 'mac' },
  { name: 'SHA512_HMAC', key: 'mac' },
  { name: 'AES_CMAC', key: 'aes' },
];

function keysOf(t, session, key) {
  const isPair = key === 'rsa' || key === 'ec';
  return isPair
    ? [t.find(session, key, t.p.CKO_PRIVATE_KEY), t.find(session, key, t.p.CKO_PUBLIC_KEY)]
    : [t.find(session, key), t.find(session, key)];
}

const ofSigner = ({ name, key, single, isRandom, data = text, parameter }) => {
  const mechanismOf = (t) => ({
    mechanism: t.p[`CKM_${name}`],
    ...(parameter === undefined ? {} : { parameter: parameter(t) }),
  });
  const sign = isRandom ? 'callForLength' : 'call';
  return [
    {
      name: `${name}: signed at once, verified, with wrong signatures too`,
      run(t) {
        const session = t.session();
        const [own, other] = keysOf(t, session, key);
        t.call('C_SignInit', session, mechanismOf(t), own);
        const signature = t[sign]('C_Sign', session, data, room());
        for (const claimed of [
          signature,
          Buffer.alloc(signature.length, 1),
          signature.subarray(1),
          Buffer.alloc(300),
        ]) {
          t.call('C_VerifyInit', session, mechanismOf(t), other);
          t.call('C_Verify', session, data, claimed);
        }
        t.call('C_Verify', session, data, signature);
      },
    },
    {
      name: `${name}: part by part`,
      run(t) {
        const session = t.session();
        const [own, other] = keysOf(t, session, key);
        t.call('C_SignInit', session, mechanismOf(t), own);
        t.call('C_SignUpdate', session, data.subarray(0, 7));
        t.call('C_SignUpdate', session, data.subarray(7));
        const signature = t[sign]('C_SignFinal', session, room());
        if (signature === undefined) return;
        t.call('C_VerifyInit', session, mechanismOf(t), other);
        t.call('C_VerifyUpdate', session, data);
        t.call('C_VerifyFinal', session, signature);
        t.call('C_VerifyInit', session, mechanismOf(t), other);
        t.call('C_VerifyUpdate', session, data.subarray(1));
        t.call('C_VerifyFinal', session, signature);
        t.call('C_VerifyFinal', session, signature);
      },
    },
    {
      name: `${name}: callbacks and promises`,
      async run(t) {
        const session = t.session();
        const [own, other] = keysOf(t, session, key);
        t.call('C_SignInit', session, mechanismOf(t), own);
        const signature = await t.callWith('C_Sign', session, data, room());
        t.call('C_VerifyInit', session, mechanismOf(t), other);
        await t.callWith('C_Verify', session, data, signature);
        t.call('C_VerifyInit', session, mechanismOf(t), other);
        await t.callAsync('C_Verify', session, data, Buffer.alloc(signature.length, 5));
        if (single) return;
        t.call('C_SignInit', session, mechanismOf(t), own);
        t.call('C_SignUpdate', session, data);
        const again = await t.callAsync('C_SignFinal', session, room());
        t.note(isRandom || again.equals(signature));
        t.call('C_VerifyInit', session, mechanismOf(t), other);
        t.call('C_VerifyUpdate', session, data);
        await t.callAsync('C_VerifyFinal', session, signature);
      },
    },
  ];
};

const ofDigest = (name) => ({
  name: `${name}: at once, part by part, callbacks`,
  async run(t) {
    const session = t.session({ login: false });
    const mechanism = { mechanism: t.p[`CKM_${name}`] };
    t.call('C_DigestInit', session, mechanism);
    t.call('C_Digest', session, text, room());
    t.call('C_DigestInit', session, mechanism);
    for (let at = 0; at < text.length; at += 10) t.call('C_DigestUpdate', session, text.subarray(at, at + 10));
    t.call('C_DigestFinal', session, room());
    t.call('C_DigestFinal', session, room());
    t.call('C_DigestInit', session, mechanism);
    await t.callWith('C_Digest', session, text, room());
    t.call('C_DigestInit', session, mechanism);
    t.call('C_DigestUpdate', session, text);
    await t.callAsync('C_DigestFinal', session, room());
  },
});

export const signatureCases = [
  ...digests.map(ofDigest),
  ...signers.flatMap(ofSigner),
  {
    name: 'a digest of nothing but its end',
    run(t) {
      const session = t.session();
      t.call('C_DigestInit', session, { mechanism: t.p.CKM_SHA256 });
      t.call('C_DigestFinal', session, room());
    },
  },
  {
    name: 'empty data',
    run(t) {
      const session = t.session();
      t.call('C_DigestInit', session, { mechanism: t.p.CKM_SHA256 });
      t.call('C_Digest', session, Buffer.alloc(0), room());
    },
  },
  {
    name: 'C_DigestKey, between parts',
    run(t) {
      const session = t.session();
      const key = t.find(session, 'mac');
      t.call('C_DigestInit', session, { mechanism: t.p.CKM_SHA256 });
      t.call('C_DigestUpdate', session, text);
      t.call('C_DigestKey', session, key);
      t.call('C_DigestUpdate', session, text);
      t.callForLength('C_DigestFinal', session, room());
      t.call('C_DigestKey', session, key);
    },
  },
  {
    name: 'too little room: the operation stays',
    run(t) {
      const session = t.session();
      const [own] = keysOf(t, session, 'mac');
      t.call('C_SignInit', session, { mechanism: t.p.CKM_SHA256_HMAC }, own);
      t.call('C_Sign', session, text, Buffer.alloc(5));
      t.call('C_Sign', session, text, Buffer.alloc(31));
      t.call('C_Sign', session, text, room());
      t.call('C_DigestInit', session, { mechanism: t.p.CKM_SHA256 });
      t.call('C_Digest', session, text, Buffer.alloc(5));
      t.call('C_Digest', session, Buffer.from('other data'), room());
      t.call('C_DigestInit', session, { mechanism: t.p.CKM_SHA256 });
      t.call('C_DigestUpdate', session, text);
      t.call('C_DigestFinal', session, Buffer.alloc(5));
      t.call('C_DigestFinal', session, room());
      t.call('C_SignInit', session, { mechanism: t.p.CKM_SHA256_HMAC }, own);
      t.call('C_SignUpdate', session, text);
      t.call('C_SignFinal', session, Buffer.alloc(5));
      t.call('C_SignFinal', session, room());
    },
  },
  {
    name: 'too little room, with a callback',
    async run(t) {
      const session = t.session();
      t.call('C_DigestInit', session, { mechanism: t.p.CKM_SHA256 });
      await t.callWith('C_Digest', session, text, Buffer.alloc(5));
      await t.callWith('C_Digest', session, text, room());
    },
  },
  {
    name: 'an empty output asks for the length, and leaves the operation',
    async run(t) {
      const session = t.session();
      const [own] = keysOf(t, session, 'rsa');
      const none = Buffer.alloc(0);
      t.call('C_SignInit', session, { mechanism: t.p.CKM_SHA256_RSA_PKCS }, own);
      t.call('C_Sign', session, text, none);
      await t.callWith('C_Sign', session, text, none);
      t.call('C_Sign', session, text, room());
      t.call('C_Sign', session, text, none);
      t.call('C_DigestInit', session, { mechanism: t.p.CKM_SHA256 });
      t.call('C_DigestUpdate', session, text);
      t.call('C_DigestFinal', session, none);
      t.call('C_DigestFinal', session, room());
    },
  },
  {
    name: 'C_SignInit: keys and mechanisms that do not go together',
    run(t) {
      const session = t.session();
      const { p } = t;
      const [rsa, rsaPublic] = keysOf(t, session, 'rsa');
      const aes = t.find(session, 'aes');
      const mac = t.find(session, 'mac');
      // Uses a session for each Init, since some succeed and fail only later.
      const begin = (method, ...args) => t.call(method, t.session(), ...args);
      begin('C_SignInit', { mechanism: p.CKM_SHA256_RSA_PKCS }, aes);
      begin('C_SignInit', { mechanism: p.CKM_SHA256_RSA_PKCS }, rsaPublic);
      begin('C_SignInit', { mechanism: p.CKM_SHA256_HMAC }, rsa);
      begin('C_SignInit', { mechanism: p.CKM_AES_CBC }, rsa);
      begin('C_SignInit', { mechanism: 0x80001234 }, rsa);
      begin('C_SignInit', { mechanism: p.CKM_SHA256 }, rsa);
      begin('C_VerifyInit', { mechanism: p.CKM_SHA256_RSA_PKCS }, rsa);
      begin('C_EncryptInit', { mechanism: p.CKM_AES_CBC, parameter: Buffer.alloc(16) }, mac);
      begin('C_DigestInit', { mechanism: p.CKM_AES_CBC });
      begin('C_DigestInit', { mechanism: 0x80001234 });
      const parameter = pss(t, 'CKM_SHA_1', 'CKG_MGF1_SHA256', 20);
      begin('C_SignInit', { mechanism: p.CKM_RSA_PKCS_PSS, parameter }, rsa);
      begin('C_SignInit', { mechanism: p.CKM_SHA256_RSA_PKCS }, Buffer.from([1, 2, 3, 0, 0, 0, 0, 0]));
      begin('C_SignInit', { mechanism: p.CKM_SHA256_RSA_PKCS }, rsa);
    },
  },
  {
    name: 'data that a mechanism does not take',
    run(t) {
      const session = t.session();
      const [rsa] = keysOf(t, session, 'rsa');
      t.call('C_SignInit', session, { mechanism: t.p.CKM_RSA_PKCS }, rsa);
      t.call('C_Sign', session, Buffer.alloc(300), room());
      t.call('C_Sign', session, Buffer.alloc(30), room());
    },
  },
  {
    name: 'one operation at a time on a session',
    run(t) {
      const session = t.session();
      const { p } = t;
      const [rsa, rsaPublic] = keysOf(t, session, 'rsa');
      const mechanism = { mechanism: p.CKM_SHA256_RSA_PKCS };
      t.call('C_SignInit', session, mechanism, rsa);
      t.call('C_SignInit', session, mechanism, rsa);
      t.call('C_VerifyInit', session, mechanism, rsaPublic);
      t.call('C_DigestInit', session, { mechanism: p.CKM_SHA256 });
      t.call('C_Verify', session, text, Buffer.alloc(256));
      t.call('C_Digest', session, text, room());
      t.call('C_Encrypt', session, text, room());
      t.call('C_Sign', session, text, room());
      t.call('C_Sign', session, text, room());
    },
  },
  {
    name: 'operations on several sessions, interleaved',
    run(t) {
      const sessions = [1, 2, 3].map(() => t.session());
      for (const [at, session] of sessions.entries()) {
        t.call('C_DigestInit', session, { mechanism: t.p.CKM_SHA256 });
        t.call('C_DigestUpdate', session, Buffer.from([at]));
      }
      for (const session of sessions.toReversed()) t.call('C_DigestUpdate', session, text);
      for (const session of sessions) t.call('C_DigestFinal', session, room());
    },
  },
  {
    name: 'at once after a part, and the end without any',
    run(t) {
      const session = t.session();
      const [mac] = keysOf(t, session, 'mac');
      const mechanism = { mechanism: t.p.CKM_SHA256_HMAC };
      t.call('C_SignInit', session, mechanism, mac);
      t.call('C_SignUpdate', session, text);
      t.call('C_Sign', session, text, room());
      t.call('C_SignFinal', session, room());
      t.call('C_SignInit', session, mechanism, mac);
      t.call('C_SignFinal', session, room());
      t.call('C_DigestInit', session, { mechanism: t.p.CKM_SHA256 });
      t.call('C_DigestUpdate', session, text);
      t.call('C_Digest', session, text, room());
      t.call('C_DigestFinal', session, room());
    },
  },
  {
    name: 'calls that nothing was begun for',
    async run(t) {
      const session = t.session();
      for (const name of ['Sign', 'Encrypt', 'Decrypt', 'Digest']) {
        t.call(`C_${name}`, session, text, room());
        await t.callWith(`C_${name}`, session, text, room());
        t.call(`C_${name}Final`, session, room());
        await t.callAsync(`C_${name}Final`, session, room());
      }
      t.call('C_Verify', session, text, room());
      t.call('C_VerifyFinal', session, room());
      for (const name of ['Sign', 'Verify', 'Digest']) t.call(`C_${name}Update`, session, text);
      for (const name of ['Encrypt', 'Decrypt']) t.call(`C_${name}Update`, session, text, room());
      t.call('C_SignRecover', session, text, room());
      t.call('C_VerifyRecover', session, text, room());
      t.call('C_DigestKey', session, t.find(session, 'mac'));
    },
  },
  {
    name: 'an operation whose session is closed, and whose login ends',
    run(t) {
      const one = t.session();
      const other = t.session();
      const [mac] = keysOf(t, one, 'mac');
      t.call('C_SignInit', one, { mechanism: t.p.CKM_SHA256_HMAC }, mac);
      t.call('C_CloseSession', one);
      t.call('C_Sign', one, text, room());
      t.call('C_DigestInit', other, { mechanism: t.p.CKM_SHA256 });
      t.call('C_Logout', other);
      t.call('C_SignInit', other, { mechanism: t.p.CKM_SHA256_HMAC }, mac);
    },
  },
  {
    name: 'parameters of the wrong kind',
    run(t) {
      const session = t.session();
      const { p } = t;
      const [rsa] = keysOf(t, session, 'rsa');
      const init = (parameter) => t.call('C_SignInit', session, { mechanism: p.CKM_RSA_PKCS_PSS, parameter }, rsa);
      init({});
      init({ type: 'x' });
      init({ type: p.CK_PARAMS_RSA_PSS });
      init({ type: p.CK_PARAMS_RSA_PSS, hashAlg: p.CKM_SHA256 });
      init({ type: p.CK_PARAMS_RSA_PSS, hashAlg: p.CKM_SHA256, mgf: 1, saltLen: 'x' });
      init({ type: p.CK_PARAMS_AES_CBC, iv: Buffer.alloc(5) });
      init({ type: p.CK_PARAMS_AES_CBC, iv: 'x' });
      init({ type: p.CK_PARAMS_EC_DH, kdf: 1 });
      init({ type: p.CK_PARAMS_GCM, iv: Buffer.alloc(12) });
      init({
        type: p.CK_PARAMS_ECDH2_DERIVE,
        kdf: 1,
        publicData: Buffer.alloc(1),
        privateDataLen: 1,
        privateData: Buffer.alloc(3),
      });
      init({ type: p.CK_PARAMS_KEA_DERIVE, isSender: 5 });
      init({ type: p.CK_PARAMS_KEY_WRAP_SET_OAEP, bc: 300 });
      init({ type: p.CK_PARAMS_RC2_CBC, effectiveBits: 5, iv: Buffer.alloc(4) });
      t.note('nothing was begun');
      t.call('C_Sign', session, text, room());
    },
  },
];
