import { TokenError } from '../../core/base/error.js';
import type { Task } from '../../core/base/task.js';
import { type DataKind, functionsOf } from '../../core/jobs/operation-kind.js';
import { type Method, onSession, onSessionNow, outputOf, queriesFor, unsupported } from './methods.js';

function* checkVerified(functionName: string, task: Task<{ readonly code: number }>): Task<true> {
  const { code } = yield* task;
  if (code !== 0) throw new TokenError(code, functionName, '');
  return true;
}

function initOf(kind: DataKind): Method {
  if (kind === 'digest')
    return onSession(['mechanism'], ({ session, deadline }, mechanism) =>
      session.begin(kind, mechanism, undefined, deadline),
    );
  return onSession(['mechanism', 'handle'], ({ session, deadline }, mechanism, key) =>
    session.begin(kind, mechanism, key, deadline),
  );
}

function singleOf(kind: DataKind): Method {
  const { single } = functionsOf[kind];
  const isAsync = kind !== 'signRecover' && kind !== 'verifyRecover';
  if (kind === 'verify')
    return onSession(
      ['bytes', 'bytes'],
      ({ session, deadline }, data, signature) =>
        checkVerified(single, session.single(kind, data, signature, 0, deadline)),
      { isAsync },
    );
  return onSession(
    ['bytes', 'output'],
    ({ session, deadline }, data, output) => outputOf(session.single(kind, data, undefined, output.length, deadline)),
    { isAsync, output: 2, queries: queriesFor(kind, single) },
  );
}

function updateOf(kind: DataKind): Method {
  if (kind === 'encrypt' || kind === 'decrypt')
    return onSession(
      ['bytes', 'output'],
      ({ session, deadline }, data, output) => session.update(kind, data, output.length, deadline),
      { output: 2, queries: queriesFor(kind, functionsOf[kind].update ?? '') },
    );
  return onSession(['bytes'], function* ({ session, deadline }, data) {
    yield* session.update(kind, data, 0, deadline);
  });
}

function finalOf(kind: DataKind): Method {
  const { final = '' } = functionsOf[kind];
  if (kind === 'verify')
    return onSession(
      ['bytes'],
      ({ session, deadline }, signature) => checkVerified(final, session.final(kind, signature, 0, deadline)),
      { isAsync: true },
    );
  return onSession(
    ['output'],
    ({ session, deadline }, output) => outputOf(session.final(kind, undefined, output.length, deadline)),
    { isAsync: true, output: 1, queries: queriesFor(kind, final) },
  );
}

/** Makes the method of a dual-function call, section 5.12. */
function dualOf(cipher: 'encrypt' | 'decrypt', other: 'digest' | 'sign' | 'verify', name: string): Method {
  return onSession(
    ['bytes', 'output'],
    ({ session, deadline }, data, output) => session.updateBoth(cipher, other, name, data, output.length, deadline),
    { isAsync: true, output: 2, queries: queriesFor(cipher, name) },
  );
}

const kinds: readonly DataKind[] = ['encrypt', 'decrypt', 'digest', 'sign', 'verify', 'signRecover', 'verifyRecover'];

/** Methods of sections 5.8 to 5.12. */
export const dataMethods: Readonly<Record<string, Method>> = {
  ...Object.fromEntries(
    kinds.flatMap((kind): (readonly [string, Method])[] => {
      const { init, single, update, final } = functionsOf[kind];
      return [
        [init, initOf(kind)],
        [single, singleOf(kind)],
        ...(update === undefined ? [] : [[update, updateOf(kind)] as const]),
        ...(final === undefined ? [] : [[final, finalOf(kind)] as const]),
      ];
    }),
  ),
  C_DigestKey: onSession(['handle'], ({ session, deadline }, key) => session.digestKey(key, deadline)),
  C_DigestEncryptUpdate: dualOf('encrypt', 'digest', 'C_DigestEncryptUpdate'),
  C_DecryptDigestUpdate: dualOf('decrypt', 'digest', 'C_DecryptDigestUpdate'),
  C_SignEncryptUpdate: dualOf('encrypt', 'sign', 'C_SignEncryptUpdate'),
  C_DecryptVerifyUpdate: dualOf('decrypt', 'verify', 'C_DecryptVerifyUpdate'),
  C_GetOperationState: onSessionNow([], () => unsupported('C_GetOperationState')),
  C_SetOperationState: onSessionNow(['bytes', 'handle', 'handle'], () => unsupported('C_SetOperationState')),
};
