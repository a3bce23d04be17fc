// Cases of the library, slots, tokens, sessions and logins.

const nobody = Buffer.from([0x77, 0x77, 0x77, 0x17, 0, 0, 0, 0]);

export const sessionCases = [
  {
    name: 'the library: loaded, initialized, twice, finalized, closed',
    bare: true,
    run(t) {
      t.note(`libPath ${t.lib.libPath}`);
      t.call('C_Initialize');
      t.call('C_Finalize');
      t.call('C_GetInfo');
      t.call('C_GetSlotList');
      t.call('close');
    },
  },
  {
    name: 'a library that is not there',
    bare: true,
    run(t) {
      try {
        t.lib.load('/nowhere/at/all');
        t.note('loaded');
      } catch (error) {
        t.note(`${error instanceof TypeError} ${error instanceof t.p.NativeError} ${error.code}`);
      }
      t.note(`libPath ${t.lib.libPath}`);
    },
  },
  {
    name: 'C_Initialize: again, and its options',
    run(t) {
      t.call('C_Initialize');
      t.call('C_Initialize', null);
      t.call('C_Initialize', { flags: 2 });
      t.call('C_Initialize', 5);
      t.call('C_Initialize', 'x');
      t.call('C_Initialize', { libraryParameters: 5 });
    },
  },
  {
    name: 'C_Finalize: and everything after it',
    endsLibrary: true,
    run(t) {
      const session = t.session();
      t.call('C_Finalize');
      t.call('C_Finalize');
      t.call('C_GetInfo');
      t.call('C_GetSlotList', true);
      t.call('C_GetSessionInfo', session);
      t.call('C_OpenSession', t.slot, 4);
      t.call('C_Initialize');
      t.call('C_GetSessionInfo', session);
      t.note(`the same slot: ${t.lib.C_GetSlotList(true)[0].equals(t.slot)}`);
    },
  },
  {
    name: 'C_GetSlotList: what it takes',
    run(t) {
      t.note(t.lib.C_GetSlotList(true).length > 0);
      t.note(Array.isArray(t.lib.C_GetSlotList()));
      t.call('C_GetSlotList', undefined);
      t.call('C_GetSlotList', null);
      t.call('C_GetSlotList', 1);
    },
  },
  {
    name: 'C_GetInfo, C_GetSlotInfo, C_GetTokenInfo: keys and kinds',
    run(t) {
      for (const info of [t.lib.C_GetInfo(), t.lib.C_GetSlotInfo(t.slot), t.lib.C_GetTokenInfo(t.slot)]) {
        t.note(
          Object.entries(info).map(
            ([key, value]) =>
              `${key} ${typeof value} ${typeof value === 'string' ? value.length : typeof value === 'object' ? Object.keys(value) : ''}`,
          ),
        );
      }
      t.call('C_GetSlotInfo', nobody);
      t.call('C_GetTokenInfo', nobody);
    },
  },
  {
    name: 'mechanisms: the list and each of them',
    run(t) {
      const list = t.lib.C_GetMechanismList(t.slot);
      t.note([...list].sort((a, b) => a - b));
      for (const mechanism of [...list].sort((a, b) => a - b)) t.call('C_GetMechanismInfo', t.slot, mechanism);
      t.call('C_GetMechanismInfo', t.slot, 0x80001234);
      t.call('C_GetMechanismInfo', nobody, 1);
      t.call('C_GetMechanismList', nobody);
    },
  },
  {
    name: 'C_OpenSession: flags',
    run(t) {
      const { p } = t;
      for (const flags of [0, p.CKF_RW_SESSION, p.CKF_SERIAL_SESSION, 6, 6.9, 0x1_0000_0006]) {
        const session = t.call('C_OpenSession', t.slot, flags);
        if (session !== undefined) t.note(Object.entries(t.lib.C_GetSessionInfo(session)).slice(1).join(' '));
      }
      t.call('C_OpenSession', nobody, 4);
    },
  },
  {
    name: 'sessions: closed once, and once more',
    run(t) {
      const one = t.session();
      const other = t.session();
      t.call('C_CloseSession', one);
      t.call('C_CloseSession', one);
      t.call('C_GetSessionInfo', one);
      t.call('C_CloseAllSessions', t.slot);
      t.call('C_GetSessionInfo', other);
      t.call('C_CloseAllSessions', t.slot);
      t.call('C_CloseAllSessions', nobody);
    },
  },
  {
    name: 'states of sessions',
    run(t) {
      const state = (session) => t.note(`state ${t.lib.C_GetSessionInfo(session).state}`);
      const reader = t.session({ write: false, login: false });
      const writer = t.session({ login: false });
      state(reader);
      state(writer);
      t.call('C_Login', writer, t.p.CKU_USER, t.pin);
      state(reader);
      state(writer);
      t.call('C_Logout', reader);
      state(writer);
    },
  },
  {
    name: 'the login ends with the last session',
    run(t) {
      const session = t.session();
      t.call('C_CloseSession', session);
      const next = t.session({ login: false });
      t.note(`state ${t.lib.C_GetSessionInfo(next).state}`);
    },
  },
  {
    name: 'handles may be plain Uint8Arrays, and each is a copy',
    run(t) {
      const session = new Uint8Array(t.session());
      t.note(t.lib.C_GetSessionInfo(session).flags);
      const { slotID } = t.lib.C_GetSessionInfo(session);
      t.note(`${slotID.equals(t.slot)} ${slotID === t.slot}`);
      const key = new Uint8Array(t.find(session, 'aes'));
      t.call('C_GetAttributeValue', session, key, [{ type: t.p.CKA_KEY_TYPE }]);
    },
  },
  {
    name: 'C_Login: a wrong PIN, the right one, again',
    run(t) {
      const session = t.session({ login: false });
      t.call('C_Login', session, t.p.CKU_USER, 'wrong');
      t.call('C_Login', session, t.p.CKU_USER, '');
      t.call('C_Login', session, t.p.CKU_USER, t.pin);
      t.call('C_Login', session, t.p.CKU_USER, t.pin);
      t.call('C_Login', session, t.p.CKU_USER, 'wrong');
      t.call('C_Login', t.session({ login: false }), t.p.CKU_USER, t.pin);
    },
  },
  {
    name: 'C_Login: other users',
    run(t) {
      const session = t.session({ login: false });
      t.call('C_Login', session, 9, t.pin);
      t.call('C_Login', session, t.p.CKU_CONTEXT_SPECIFIC, t.pin);
      t.call('C_Login', session, t.p.CKU_SO, 'wrong SO PIN');
      t.call('C_Login', session, t.p.CKU_USER, t.pin);
      t.call('C_Login', session, t.p.CKU_CONTEXT_SPECIFIC, t.pin);
      t.call('C_Login', session, t.p.CKU_SO, '12345678');
    },
  },
  {
    name: 'C_Logout: without a login, and what it takes away',
    run(t) {
      const session = t.session({ login: false });
      t.call('C_Logout', session);
      t.lib.C_Login(session, t.p.CKU_USER, t.pin);
      const key = t.find(session, 'aes');
      t.call('C_Logout', session);
      t.call('C_GetAttributeValue', session, key, [{ type: t.p.CKA_LABEL }]);
      t.call('C_FindObjectsInit', session, [{ type: t.p.CKA_LABEL, value: 'aes' }]);
      t.call('C_FindObjects', session);
      t.call('C_FindObjectsFinal', session);
      t.call('C_FindObjectsInit', session, [
        { type: t.p.CKA_LABEL, value: 'rsa' },
        { type: t.p.CKA_CLASS, value: t.p.CKO_PUBLIC_KEY },
      ]);
      t.note(t.lib.C_FindObjects(session) !== null);
    },
  },
  {
    name: 'C_SetPIN: wrong, too short, on a read-only session',
    run(t) {
      const session = t.session();
      t.call('C_SetPIN', session, 'wrong', 'another one');
      t.call('C_SetPIN', session, t.pin, '1');
    },
  },
  {
    name: 'C_SetPIN on a read-only session',
    run(t) {
      t.call('C_SetPIN', t.session({ write: false }), t.pin, 'another one');
    },
  },
  {
    name: 'C_GenerateRandom: the same memory, filled',
    run(t) {
      const session = t.session({ login: false });
      const bytes = Buffer.alloc(64);
      const result = t.callForLength('C_GenerateRandom', session, bytes);
      t.note(`${result === bytes} ${bytes.some((byte) => byte !== 0)}`);
      t.callForLength('C_GenerateRandom', session, Buffer.alloc(100_000));
      t.call('C_SeedRandom', session, Buffer.from('seed'));
    },
  },
  {
    name: 'calls that no token here has',
    run(t) {
      const session = t.session();
      const key = t.find(session, 'rsa', t.p.CKO_PRIVATE_KEY);
      t.call('C_GetOperationState', session);
      t.call('C_SetOperationState', session, Buffer.alloc(8), key, key);
      t.call('C_SignRecoverInit', session, { mechanism: t.p.CKM_RSA_PKCS }, key);
      t.call(
        'C_VerifyRecoverInit',
        session,
        { mechanism: t.p.CKM_RSA_PKCS },
        t.find(session, 'rsa', t.p.CKO_PUBLIC_KEY),
      );
      t.call('C_WaitForSlotEvent', t.p.CKF_DONT_BLOCK);
      t.call('C_InitPIN', session, '1234');
    },
  },
];
