// Cases of encryption and decryption: at once, part by part, with callbacks, and with a buffer that is too short.

const text = Buffer.from('the quick brown fox jumps over the lazy dog again and again');
const blocks = Buffer.alloc(64, 7);
const room = () => Buffer.alloc(1024);
const iv = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');

const gcm = (t, kind) => ({
  type: kind ?? t.p.CK_PARAMS_AES_GCM_v240,
  iv: iv.subarray(0, 12),
  ivBits: 96,
  aad: Buffer.from('aad'),
  tagBits: 128,
});
const oaep = (t) => ({ type: t.p.CK_PARAMS_RSA_OAEP, hashAlg: t.p.CKM_SHA_1, mgf: t.p.CKG_MGF1_SHA1, source: 1 });

const ciphers = [
  { name: 'AES_ECB', key: 'aes', data: blocks },
  { name: 'AES_CBC', key: 'aes', data: blocks, parameter: () => iv },
  { name: 'AES_CBC_PAD', key: 'aes', data: text, parameter: () => iv },
  {
    name: 'AES_CTR',
    key: 'aes',
    data: text,
    parameter: () => Buffer.concat([Buffer.from([128, 0, 0, 0, 0, 0, 0, 0]), iv]),
  },
  { name: 'AES_GCM', key: 'aes', data: text, parameter: (t) => gcm(t) },
  { name: 'DES3_CBC', key: 'des3', data: blocks, parameter: () => iv.subarray(0, 8) },
  { name: 'DES3_CBC_PAD', key: 'des3', data: text, parameter: () => iv.subarray(0, 8) },
  { name: 'RSA_PKCS', key: 'rsa', data: text, isRandom: true, single: true },
  { name: 'RSA_PKCS_OAEP', key: 'rsa', data: text, isRandom: true, single: true, parameter: oaep },
  { name: 'RSA_X_509', key: 'rsa', data: Buffer.alloc(256, 1), single: true },
];

function keysOf(t, session, key) {
  if (key === 'rsa') return [t.find(session, key, t.p.CKO_PUBLIC_KEY), t.find(session, key, t.p.CKO_PRIVATE_KEY)];
  const found = t.find(session, key);
  return [found, found];
}

const ofCipher = ({ name, key, data, parameter, isRandom, single }) => {
  const mechanismOf = (t) => ({
    mechanism: t.p[`CKM_${name}`],
    ...(parameter === undefined ? {} : { parameter: parameter(t) }),
  });
  const show = isRandom ? 'callForLength' : 'call';
  return [
    {
      name: `${name} cipher: encrypted at once, and decrypted`,
      run(t) {
        const session = t.session();
        const [forth, back] = keysOf(t, session, key);
        t.call('C_EncryptInit', session, mechanismOf(t), forth);
        const encrypted = t[show]('C_Encrypt', session, data, room());
        if (encrypted === undefined) return;
        t.call('C_DecryptInit', session, mechanismOf(t), back);
        t.call('C_Decrypt', session, encrypted, room());
        t.call('C_Decrypt', session, encrypted, room());
      },
    },
    {
      name: `${name} cipher: part by part`,
      run(t) {
        const session = t.session();
        const [forth, back] = keysOf(t, session, key);
        t.call('C_EncryptInit', session, mechanismOf(t), forth);
        const pieces = [];
        for (let at = 0; at < data.length; at += 13)
          pieces.push(t[show]('C_EncryptUpdate', session, data.subarray(at, at + 13), room()));
        pieces.push(t[show]('C_EncryptFinal', session, room()));
        if (single || pieces.includes(undefined)) return;
        const encrypted = Buffer.concat(pieces);
        t.call('C_DecryptInit', session, mechanismOf(t), back);
        const parts = [];
        for (let at = 0; at < encrypted.length; at += 21)
          parts.push(t.lib.C_DecryptUpdate(session, encrypted.subarray(at, at + 21), room()));
        parts.push(t.lib.C_DecryptFinal(session, room()));
        t.note(Buffer.concat(parts).toString('hex'));
      },
    },
    {
      name: `${name} cipher: callbacks and promises`,
      async run(t) {
        const session = t.session();
        const [forth, back] = keysOf(t, session, key);
        t.call('C_EncryptInit', session, mechanismOf(t), forth);
        const output = room();
        const encrypted = await new Promise((resolve, reject) => {
          t.lib.C_Encrypt(session, data, output, (error, result) => (error ? reject(error) : resolve(result)));
        });
        t.note(`${encrypted.length} ${encrypted.buffer === output.buffer}`);
        t.call('C_DecryptInit', session, mechanismOf(t), back);
        await t.callWith('C_Decrypt', session, encrypted, room());
        t.call('C_DecryptInit', session, mechanismOf(t), back);
        await t.callAsync('C_Decrypt', session, encrypted, room());
      },
    },
  ];
};

const cbcPad = (t) => ({ mechanism: t.p.CKM_AES_CBC_PAD, parameter: iv });

export const cipherCases = [
  ...ciphers.flatMap(ofCipher),
  {
    name: 'data of a length that a mechanism does not take',
    run(t) {
      const session = t.session();
      const [aes] = keysOf(t, session, 'aes');
      t.call('C_EncryptInit', session, { mechanism: t.p.CKM_AES_CBC, parameter: iv }, aes);
      t.call('C_Encrypt', session, Buffer.alloc(15), room());
      t.call('C_Encrypt', session, blocks, room());
      t.call('C_DecryptInit', session, cbcPad(t), aes);
      t.call('C_Decrypt', session, Buffer.alloc(15), room());
      t.call('C_DecryptInit', session, cbcPad(t), aes);
      t.call('C_Decrypt', session, Buffer.alloc(32, 9), room());
    },
  },
  {
    name: 'a GCM tag that is wrong',
    run(t) {
      const session = t.session();
      const [aes] = keysOf(t, session, 'aes');
      t.call('C_DecryptInit', session, { mechanism: t.p.CKM_AES_GCM, parameter: gcm(t) }, aes);
      t.call('C_Decrypt', session, Buffer.alloc(48, 1), room());
      t.call('C_EncryptInit', session, { mechanism: t.p.CKM_AES_GCM, parameter: gcm(t, t.p.CK_PARAMS_GCM) }, aes);
      t.call('C_Encrypt', session, text, room());
    },
  },
  {
    name: 'parameters that a mechanism does not take',
    run(t) {
      const session = t.session();
      const [aes] = keysOf(t, session, 'aes');
      const { p } = t;
      t.call('C_EncryptInit', session, { mechanism: p.CKM_AES_CBC }, aes);
      t.call('C_EncryptInit', session, { mechanism: p.CKM_AES_CBC, parameter: null }, aes);
      t.call('C_EncryptInit', session, { mechanism: p.CKM_AES_CBC, parameter: Buffer.alloc(5) }, aes);
      t.call('C_EncryptInit', session, { mechanism: p.CKM_AES_CBC, parameter: 5 }, aes);
      t.call('C_EncryptInit', session, { mechanism: p.CKM_AES_GCM }, aes);
    },
  },
  {
    name: 'too little room for a cipher: the operation stays',
    run(t) {
      const session = t.session();
      const [aes] = keysOf(t, session, 'aes');
      t.call('C_EncryptInit', session, cbcPad(t), aes);
      t.call('C_Encrypt', session, text, Buffer.alloc(16));
      t.call('C_Encrypt', session, text, room());
      t.call('C_EncryptInit', session, cbcPad(t), aes);
      t.call('C_EncryptUpdate', session, blocks, Buffer.alloc(16));
      t.call('C_EncryptUpdate', session, blocks, room());
      t.call('C_EncryptFinal', session, Buffer.alloc(3));
      t.call('C_EncryptFinal', session, room());
    },
  },
  {
    name: 'an empty output of a cipher asks for the length',
    async run(t) {
      const session = t.session();
      const [aes] = keysOf(t, session, 'aes');
      const none = Buffer.alloc(0);
      t.call('C_EncryptInit', session, cbcPad(t), aes);
      t.call('C_Encrypt', session, text, none);
      await t.callWith('C_Encrypt', session, text, none);
      t.call('C_EncryptUpdate', session, blocks, none);
      t.call('C_EncryptUpdate', session, blocks, room());
      t.call('C_EncryptFinal', session, none);
      t.call('C_EncryptFinal', session, room());
    },
  },
  {
    name: 'a cipher at once, after a part of it',
    run(t) {
      const session = t.session();
      const [aes] = keysOf(t, session, 'aes');
      t.call('C_EncryptInit', session, cbcPad(t), aes);
      t.call('C_EncryptUpdate', session, blocks, room());
      t.call('C_Encrypt', session, text, room());
      t.call('C_EncryptUpdate', session, blocks, room());
    },
  },
  {
    name: 'ciphers on two sessions, interleaved',
    run(t) {
      const sessions = [t.session(), t.session()];
      const [aes] = keysOf(t, sessions[0], 'aes');
      for (const session of sessions) t.call('C_EncryptInit', session, cbcPad(t), aes);
      for (let at = 0; at < 5; at += 1) {
        for (const session of sessions) t.call('C_EncryptUpdate', session, Buffer.alloc(20, at), room());
      }
      for (const session of sessions) t.call('C_EncryptFinal', session, room());
    },
  },
  {
    name: 'a part that has no data',
    run(t) {
      const session = t.session();
      const [aes] = keysOf(t, session, 'aes');
      t.call('C_EncryptInit', session, cbcPad(t), aes);
      t.call('C_EncryptUpdate', session, Buffer.from(text.subarray(0, 5)), room());
      t.call('C_EncryptFinal', session, room());
    },
  },
  {
    name: 'an output that is the input',
    run(t) {
      const session = t.session();
      const [aes] = keysOf(t, session, 'aes');
      const memory = Buffer.alloc(64, 7);
      t.call('C_EncryptInit', session, { mechanism: t.p.CKM_AES_CBC, parameter: iv }, aes);
      const result = t.call('C_Encrypt', session, memory, memory);
      t.note(result.equals(memory));
    },
  },
  {
    name: 'dual-function calls',
    run(t) {
      const session = t.session();
      const [aes] = keysOf(t, session, 'aes');
      t.call('C_EncryptInit', session, cbcPad(t), aes);
      t.call('C_DigestEncryptUpdate', session, text, room());
    },
  },
];
