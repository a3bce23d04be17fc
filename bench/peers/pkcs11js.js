// pkcs11js directly on one token, in this process: the usual alternative to a group.
import pkcs11js from 'pkcs11js';
import { callFor, callSyncFor } from '../lib/contest.js';
import { classOf, mechanismOf } from '../lib/operations.js';

/** Opens pkcs11js, or another class with its API, with `count` sessions. */
export function openSessions(library, path, pin, count) {
  library.load(path);
  library.C_Initialize({ flags: pkcs11js.CKF_OS_LOCKING_OK });
  const [slot] = library.C_GetSlotList(true);
  const open = () => library.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION);
  const sessions = Array.from({ length: count }, open);
  library.C_Login(sessions[0], pkcs11js.CKU_USER, pin);
  return { library, sessions, slot };
}

/** Opens pkcs11js on a member's token. */
export function openPkcs11js({ module, env }, pin, count = 16) {
  // The library runs in this process and reads the token's environment here.
  Object.assign(process.env, env);
  return openSessions(new pkcs11js.PKCS11(), module, pin, count);
}

/** Returns the handle of a key. Throws if the token has no such key. */
export function findKey({ library, sessions: [session] }, label, objectClass) {
  const template = [{ type: pkcs11js.CKA_LABEL, value: label }];
  if (objectClass !== undefined) template.push({ type: pkcs11js.CKA_CLASS, value: objectClass });
  library.C_FindObjectsInit(session, template);
  const handle = library.C_FindObjects(session);
  library.C_FindObjectsFinal(session);
  if (handle === null) throw new Error(`the token has no key ${label}`);
  return handle;
}

/** Returns a function that makes one synchronous call. */
export function syncCall(opened, operation) {
  const { library, sessions } = opened;
  const [session] = sessions;
  const mechanism = mechanismOf(operation);
  const { verb, data, size } = operation;
  if (verb === 'random') return () => library.C_GenerateRandom(session, Buffer.alloc(size));
  if (verb === 'digest') {
    return () => {
      library.C_DigestInit(session, mechanism);
      return library.C_Digest(session, data, Buffer.alloc(size));
    };
  }
  const key = findKey(opened, operation.key, classOf(operation));
  if (verb === 'sign') {
    return () => {
      library.C_SignInit(session, mechanism, key);
      return library.C_Sign(session, data, Buffer.alloc(size));
    };
  }
  return () => {
    library.C_EncryptInit(session, mechanism, key);
    return library.C_Encrypt(session, data, Buffer.alloc(size));
  };
}

/** Returns a function that makes one asynchronous call, on the session of the caller whose number it receives. */
export function asyncCall(opened, operation) {
  const { library, sessions } = opened;
  const mechanism = mechanismOf(operation);
  const { verb, data, size } = operation;
  // pkcs11js has no asynchronous call for random numbers.
  if (verb === 'random') return async () => library.C_GenerateRandom(sessions[0], Buffer.alloc(size));
  if (verb === 'digest') {
    return (caller) => {
      library.C_DigestInit(sessions[caller], mechanism);
      return library.C_DigestAsync(sessions[caller], data, Buffer.alloc(size));
    };
  }
  const key = findKey(opened, operation.key, classOf(operation));
  if (verb === 'sign') {
    return (caller) => {
      library.C_SignInit(sessions[caller], mechanism, key);
      return library.C_SignAsync(sessions[caller], data, Buffer.alloc(size));
    };
  }
  return (caller) => {
    library.C_EncryptInit(sessions[caller], mechanism, key);
    return library.C_EncryptAsync(sessions[caller], data, Buffer.alloc(size));
  };
}

/** Numbers of sessions of the asynchronous contestants. */
const SESSION_COUNTS = [1, 4, 8, 16];

/** Contestants: one synchronous, and one asynchronous for each number of sessions. */
export function contestantsOf(opened, operation) {
  const call = syncCall(opened, operation);
  const asynchronous = asyncCall(opened, operation);
  return [
    { name: 'pkcs11js sync', round: async (seconds) => callSyncFor(seconds, call) },
    ...SESSION_COUNTS.map((count) => ({
      name: `pkcs11js async ${count}`,
      round: (seconds) => callFor(seconds, count, asynchronous),
    })),
  ];
}
