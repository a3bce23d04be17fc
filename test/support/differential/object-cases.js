// Cases of objects: made, read, changed, found, destroyed.

const data = (t, more = []) => [
  { type: t.p.CKA_CLASS, value: t.p.CKO_DATA },
  { type: t.p.CKA_LABEL, value: 'data of a case' },
  { type: t.p.CKA_PRIVATE, value: false },
  { type: t.p.CKA_VALUE, value: Buffer.from('value') },
  ...more,
];
const secret = (t, more = []) => [
  { type: t.p.CKA_CLASS, value: t.p.CKO_SECRET_KEY },
  { type: t.p.CKA_KEY_TYPE, value: t.p.CKK_AES },
  { type: t.p.CKA_LABEL, value: 'key of a case' },
  { type: t.p.CKA_VALUE, value: Buffer.alloc(16, 3) },
  { type: t.p.CKA_ENCRYPT, value: true },
  ...more,
];
const token = (t) => ({ type: t.p.CKA_TOKEN, value: true });

function readAll(t, session, object, names) {
  for (const name of names) t.call('C_GetAttributeValue', session, object, [{ type: t.p[`CKA_${name}`] }]);
}

export const objectCases = [
  {
    name: 'a data object in the session: made, read, changed, destroyed',
    run(t) {
      const session = t.session();
      const object = t.call('C_CreateObject', session, data(t));
      readAll(t, session, object, ['CLASS', 'TOKEN', 'PRIVATE', 'LABEL', 'VALUE', 'APPLICATION', 'MODIFIABLE']);
      t.call('C_SetAttributeValue', session, object, [{ type: t.p.CKA_LABEL, value: 'renamed' }]);
      readAll(t, session, object, ['LABEL']);
      t.call('C_DestroyObject', session, object);
      t.call('C_DestroyObject', session, object);
      readAll(t, session, object, ['LABEL']);
    },
  },
  {
    name: 'a data object on the token: made, found by another session, destroyed there',
    run(t) {
      const session = t.session();
      t.call('C_CreateObject', session, data(t, [token(t)]));
      const other = t.session();
      const found = t.find(other, 'data of a case');
      readAll(t, other, found, ['VALUE', 'TOKEN']);
      t.call('C_DestroyObject', other, found);
      t.call('C_FindObjectsInit', session, [{ type: t.p.CKA_LABEL, value: 'data of a case' }]);
      t.call('C_FindObjects', session);
      t.call('C_FindObjectsFinal', session);
    },
  },
  {
    name: 'a token object outlives the session and the login',
    run(t) {
      const session = t.session();
      t.call('C_CreateObject', session, data(t, [token(t)]));
      t.call('C_CloseAllSessions', t.slot);
      const next = t.session();
      t.call('C_DestroyObject', next, t.find(next, 'data of a case'));
    },
  },
  {
    name: 'session objects end with their session, and no earlier',
    run(t) {
      const one = t.session();
      const other = t.session();
      const object = t.call('C_CreateObject', one, data(t));
      readAll(t, other, object, ['LABEL']);
      t.call('C_CloseSession', one);
      readAll(t, other, object, ['LABEL']);
    },
  },
  {
    name: 'private session objects end with the login',
    run(t) {
      const session = t.session();
      const hidden = t.call('C_CreateObject', session, secret(t, [{ type: t.p.CKA_PRIVATE, value: true }]));
      const open = t.call('C_CreateObject', session, data(t));
      t.call('C_Logout', session);
      readAll(t, session, open, ['LABEL']);
      t.lib.C_Login(session, t.p.CKU_USER, t.pin);
      readAll(t, session, hidden, ['LABEL']);
    },
  },
  {
    name: 'without a login: what can be made',
    run(t) {
      const session = t.session({ login: false });
      const open = t.call('C_CreateObject', session, data(t));
      readAll(t, session, open, ['LABEL']);
      t.call(
        'C_CreateObject',
        session,
        data(t, [{ type: t.p.CKA_PRIVATE, value: true }]).filter(({ value }) => value !== false),
      );
      t.call('C_CreateObject', session, secret(t));
      t.call('C_CreateObject', session, secret(t, [{ type: t.p.CKA_PRIVATE, value: false }]));
      t.call('C_GenerateKey', session, { mechanism: t.p.CKM_AES_KEY_GEN }, [{ type: t.p.CKA_VALUE_LEN, value: 16 }]);
    },
  },
  {
    name: 'on a read-only session: what can be made and changed',
    run(t) {
      const session = t.session({ write: false });
      const own = t.call('C_CreateObject', session, data(t));
      t.call('C_SetAttributeValue', session, own, [{ type: t.p.CKA_LABEL, value: 'renamed' }]);
      t.call('C_CreateObject', session, data(t, [token(t)]));
      t.call('C_GenerateKey', session, { mechanism: t.p.CKM_AES_KEY_GEN }, [
        token(t),
        { type: t.p.CKA_VALUE_LEN, value: 16 },
      ]);
      const key = t.find(session, 'aes');
      t.call('C_SetAttributeValue', session, key, [{ type: t.p.CKA_LABEL, value: 'renamed' }]);
      t.call('C_DestroyObject', session, key);
      t.call('C_CopyObject', session, key, [{ type: t.p.CKA_TOKEN, value: true }]);
      t.call('C_DestroyObject', session, own);
    },
  },
  {
    name: 'C_CreateObject: templates that are wrong',
    run(t) {
      const session = t.session();
      t.call('C_CreateObject', session, []);
      t.call('C_CreateObject', session, [{ type: t.p.CKA_LABEL, value: 'x' }]);
      t.call('C_CreateObject', session, [{ type: t.p.CKA_CLASS, value: 99 }]);
      t.call(
        'C_CreateObject',
        session,
        secret(t).filter(({ type }) => type !== t.p.CKA_KEY_TYPE),
      );
      t.call(
        'C_CreateObject',
        session,
        secret(t).filter(({ type }) => type !== t.p.CKA_VALUE),
      );
      t.call('C_CreateObject', session, secret(t, [{ type: t.p.CKA_MODULUS, value: Buffer.alloc(8) }]));
      t.call('C_CreateObject', session, secret(t, [{ type: t.p.CKA_LOCAL, value: true }]));
      t.call('C_CreateObject', session, secret(t, [{ type: t.p.CKA_SENSITIVE, value: Buffer.alloc(3) }]));
    },
  },
  {
    name: 'values of templates as pkcs11js takes them',
    run(t) {
      const session = t.session();
      const object = t.lib.C_CreateObject(session, [
        { type: t.p.CKA_CLASS, value: 2 ** 32 },
        { type: t.p.CKA_LABEL, value: 'grüße' },
        { type: t.p.CKA_APPLICATION, value: Buffer.from('app') },
        { type: t.p.CKA_PRIVATE, value: false },
        { type: t.p.CKA_VALUE, value: new Uint8Array([1, 2, 3]) },
      ]);
      readAll(t, session, object, ['CLASS', 'LABEL', 'APPLICATION', 'VALUE']);
      const empty = t.call('C_CreateObject', session, [
        { type: t.p.CKA_CLASS, value: 0 },
        { type: t.p.CKA_PRIVATE, value: false },
        { type: t.p.CKA_LABEL, value: null },
        { type: t.p.CKA_APPLICATION },
        { type: t.p.CKA_VALUE, value: Buffer.alloc(0) },
      ]);
      readAll(t, session, empty, ['LABEL', 'APPLICATION', 'VALUE']);
    },
  },
  {
    name: 'dates: as Date, Buffer, and too short',
    run(t) {
      const session = t.session();
      const dates = (start) => secret(t, [{ type: t.p.CKA_START_DATE, value: start }]);
      const object = t.call('C_CreateObject', session, dates(new Date('2026-11-22T10:00:00Z')));
      t.call('C_GetAttributeValue', session, object, [{ type: t.p.CKA_START_DATE }]);
      t.call('C_CreateObject', session, dates(Buffer.from('20261122')));
      t.call('C_CreateObject', session, dates(Buffer.from('2026')));
      t.call('C_CreateObject', session, dates(5));
      t.call('C_CreateObject', session, dates(true));
    },
  },
  {
    name: 'C_GetAttributeValue: the array that was given, all or nothing',
    run(t) {
      const session = t.session();
      const key = t.find(session, 'aes');
      const { p } = t;
      const wanted = [{ type: p.CKA_LABEL }, { type: p.CKA_CLASS }, { type: p.CKA_ID, value: null }];
      const result = t.call('C_GetAttributeValue', session, key, wanted);
      t.note(`${result === wanted}`);
      for (const types of [['VALUE'], ['LABEL', 'VALUE'], ['MODULUS'], ['LABEL', 'MODULUS'], ['VALUE', 'MODULUS']]) {
        const own = types.map((name) => ({ type: p[`CKA_${name}`] }));
        t.call('C_GetAttributeValue', session, key, own);
        t.note(own.map(({ value }) => String(value)).join(' '));
      }
      t.call('C_GetAttributeValue', session, key, []);
      t.call('C_GetAttributeValue', session, key, [{ type: 0x80001234 }]);
    },
  },
  {
    name: 'C_GetAttributeValue: room that is given',
    run(t) {
      const session = t.session();
      const key = t.find(session, 'aes');
      const { p } = t;
      for (const value of [Buffer.alloc(1), Buffer.alloc(3), Buffer.alloc(50), Buffer.alloc(0), 'xyz', '', 5, true])
        t.call('C_GetAttributeValue', session, key, [{ type: p.CKA_LABEL, value }]);
    },
  },
  {
    name: 'attributes of all that is on the token',
    run(t) {
      const session = t.session();
      const { p } = t;
      const names = [
        'CLASS',
        'KEY_TYPE',
        'LABEL',
        'ID',
        'TOKEN',
        'PRIVATE',
        'SENSITIVE',
        'EXTRACTABLE',
        'SIGN',
        'VERIFY',
        'ENCRYPT',
        'DECRYPT',
        'WRAP',
        'UNWRAP',
        'DERIVE',
        'MODULUS',
        'MODULUS_BITS',
        'PUBLIC_EXPONENT',
        'EC_PARAMS',
        'EC_POINT',
        'VALUE',
        'VALUE_LEN',
        'PRIVATE_EXPONENT',
        'MODIFIABLE',
        'COPYABLE',
        'DESTROYABLE',
        'ALWAYS_AUTHENTICATE',
        'WRAP_WITH_TRUSTED',
        'TRUSTED',
      ];
      for (const [label, objectClass] of [
        ['aes', 4],
        ['mac', 4],
        ['rsa', 3],
        ['rsa', 2],
        ['ec', 3],
        ['ec', 2],
      ]) {
        const object = t.find(session, label, objectClass);
        t.note(`${label} ${objectClass}`);
        for (const name of names) {
          if (p[`CKA_${name}`] !== undefined)
            t.call('C_GetAttributeValue', session, object, [{ type: p[`CKA_${name}`] }]);
        }
      }
    },
  },
  {
    name: 'C_SetAttributeValue: what may not be changed',
    run(t) {
      const session = t.session();
      const { p } = t;
      const key = t.lib.C_CreateObject(session, secret(t));
      for (const [type, value] of [
        [p.CKA_CLASS, p.CKO_DATA],
        [p.CKA_KEY_TYPE, p.CKK_DES3],
        [p.CKA_TOKEN, true],
        [p.CKA_PRIVATE, false],
        [p.CKA_VALUE, Buffer.alloc(16)],
        [p.CKA_LOCAL, true],
        [p.CKA_MODULUS, Buffer.alloc(4)],
        [p.CKA_EXTRACTABLE, true],
      ])
        t.call('C_SetAttributeValue', session, key, [{ type, value }]);
      t.call('C_SetAttributeValue', session, key, [{ type: p.CKA_SENSITIVE, value: true }]);
      t.call('C_SetAttributeValue', session, key, [{ type: p.CKA_SENSITIVE, value: false }]);
      t.call('C_SetAttributeValue', session, key, []);
      t.call('C_SetAttributeValue', session, key, [
        { type: p.CKA_LABEL, value: 'both' },
        { type: p.CKA_ID, value: Buffer.from([9]) },
      ]);
      readAll(t, session, key, ['LABEL', 'ID', 'SENSITIVE']);
    },
  },
  {
    name: 'C_CopyObject: with another label, and to the token',
    run(t) {
      const session = t.session();
      const { p } = t;
      const key = t.lib.C_CreateObject(session, secret(t));
      const copy = t.call('C_CopyObject', session, key, [{ type: p.CKA_LABEL, value: 'copy' }]);
      readAll(t, session, copy, ['LABEL', 'TOKEN', 'KEY_TYPE', 'ENCRYPT']);
      const kept = t.call('C_CopyObject', session, key, [
        { type: p.CKA_LABEL, value: 'kept copy' },
        { type: p.CKA_TOKEN, value: true },
      ]);
      readAll(t, session, kept, ['LABEL', 'TOKEN']);
      t.call('C_DestroyObject', session, kept);
      t.call('C_CopyObject', session, Buffer.from([1, 2, 3, 0, 0, 0, 0, 0]), []);
    },
  },
  {
    name: 'C_GetObjectSize',
    run(t) {
      const session = t.session();
      t.call('C_GetObjectSize', session, t.find(session, 'aes'));
      t.call('C_GetObjectSize', session, Buffer.from([1, 2, 3, 0, 0, 0, 0, 0]));
    },
  },
  {
    name: 'searches: one by one, several, none, without an end',
    run(t) {
      const session = t.session();
      const { p } = t;
      t.call('C_FindObjects', session);
      t.call('C_FindObjects', session, 5);
      t.call('C_FindObjectsFinal', session);
      t.call('C_FindObjectsInit', session, [{ type: p.CKA_LABEL, value: 'rsa' }]);
      t.call('C_FindObjectsInit', session, []);
      t.note(t.lib.C_FindObjects(session, 5).length);
      t.call('C_FindObjects', session);
      t.call('C_FindObjects', session, 5);
      t.call('C_FindObjectsFinal', session);
      t.call('C_FindObjectsFinal', session);
      t.call('C_FindObjectsInit', session, [{ type: p.CKA_LABEL, value: 'nothing has this label' }]);
      t.call('C_FindObjects', session);
      t.call('C_FindObjects', session, 0);
      t.call('C_FindObjectsFinal', session);
      t.call('C_FindObjectsInit', session, [
        { type: p.CKA_CLASS, value: p.CKO_PRIVATE_KEY },
        { type: p.CKA_SIGN, value: true },
      ]);
      t.note(t.lib.C_FindObjects(session, 100).length);
      t.call('C_FindObjectsFinal', session);
    },
  },
  {
    name: 'a search, with reads in between',
    run(t) {
      const session = t.session();
      const { p } = t;
      t.lib.C_FindObjectsInit(session, [{ type: p.CKA_CLASS, value: p.CKO_SECRET_KEY }]);
      const labels = [];
      for (let object = t.lib.C_FindObjects(session); object !== null; object = t.lib.C_FindObjects(session))
        labels.push(t.lib.C_GetAttributeValue(session, object, [{ type: p.CKA_LABEL }])[0].value.toString());
      t.lib.C_FindObjectsFinal(session);
      t.note(labels.sort());
    },
  },
  {
    name: 'a search and an operation on one session',
    run(t) {
      const session = t.session();
      const { p } = t;
      t.call('C_FindObjectsInit', session, []);
      t.call('C_DigestInit', session, { mechanism: p.CKM_SHA256 });
      t.call('C_FindObjectsFinal', session);
      t.call('C_DigestInit', session, { mechanism: p.CKM_SHA256 });
      t.call('C_FindObjectsInit', session, []);
      t.call('C_Digest', session, Buffer.from('data'), Buffer.alloc(32));
      t.call('C_FindObjectsInit', session, []);
      t.call('C_FindObjectsFinal', session);
    },
  },
  {
    name: 'searches on two sessions',
    run(t) {
      const one = t.session();
      const other = t.session();
      t.lib.C_FindObjectsInit(one, [{ type: t.p.CKA_LABEL, value: 'rsa' }]);
      t.lib.C_FindObjectsInit(other, [{ type: t.p.CKA_LABEL, value: 'aes' }]);
      t.note(`${t.lib.C_FindObjects(one, 9).length} ${t.lib.C_FindObjects(other, 9).length}`);
      t.call('C_FindObjectsFinal', one);
      t.call('C_FindObjectsFinal', other);
    },
  },
  {
    name: 'handles of nothing, and of other things',
    run(t) {
      const session = t.session();
      const nothing = Buffer.alloc(8);
      const template = [{ type: t.p.CKA_LABEL }];
      t.call('C_GetAttributeValue', session, nothing, template);
      t.call('C_GetAttributeValue', session, Buffer.alloc(8, 0xff), template);
      t.call('C_DestroyObject', session, nothing);
      t.call('C_SetAttributeValue', session, nothing, [{ type: t.p.CKA_LABEL, value: 'x' }]);
      t.call('C_GetSessionInfo', t.find(session, 'aes'));
    },
  },
];
