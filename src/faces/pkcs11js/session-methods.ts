import { TokenError } from '../../core/base/error.js';
import type { Task } from '../../core/base/task.js';
import { runCall } from '../../core/call/call.js';
import { random } from '../../core/jobs/operation.js';
import { mechanismsOf, mechanismsOn } from '../../core/sessions/mechanisms.js';
import { seedRandom } from '../../core/sessions/seeding.js';
import type { MechanismTable } from '../../spec/calls.js';
import { CKF, CKR } from '../../spec/codes.js';
import type { Kinds } from './arguments.js';
import { handleOf } from './handle.js';
import { mechanismInfo, sessionInfo, slotInfo, tokenInfo } from './information.js';
import type { Library, OpenSlot } from './library.js';
import { type Calling, type Method, onSession, onSessionNow, type SessionCall, unsupported } from './methods.js';
import { withPins } from './pins.js';

/** Maximum size of one random call to a member (bytes). */
const MOST_RANDOM = 1024 * 1024;

/** Makes a method whose first argument is a slot. */
function onSlot(takes: readonly (keyof Kinds)[], make: (slot: OpenSlot, ...args: never[]) => Calling): Method {
  return {
    takes: ['handle', ...takes],
    run: (library: Library, [id, ...args]) => make(library.slot(id as unknown as number), ...args),
  };
}

function* tableOf({ open, slot }: OpenSlot): Task<MechanismTable> {
  const deadline = open.now() + open.group.policy.deadline;
  return yield* slot.only === undefined
    ? mechanismsOf(open.group, deadline)
    : mechanismsOn(open.group, slot.only, deadline);
}

function* mechanismListOf(slot: OpenSlot): Task<number[]> {
  return [...(yield* tableOf(slot)).keys()];
}

function* mechanismInfoOf(slot: OpenSlot, type: number): Task<object> {
  const info = (yield* tableOf(slot)).get(type);
  if (info === undefined)
    throw new TokenError(CKR.mechanismInvalid, 'C_GetMechanismInfo', 'no member has the mechanism');
  return mechanismInfo(info);
}

function* fillRandom({ open, slot, deadline }: SessionCall, output: Uint8Array): Task<void> {
  if (output.length === 0) throw new TokenError(CKR.argumentsBad, 'C_GenerateRandom', 'the buffer is empty');
  for (let at = 0; at < output.length; at += MOST_RANDOM) {
    const size = Math.min(MOST_RANDOM, output.length - at);
    output.set(yield* runCall(open.group, { ...random(size), only: slot.only }, deadline), at);
  }
}

function setPin(call: SessionCall, old: Kinds['pin'], next: Kinds['pin']): Task<void> {
  const { slot, session, deadline } = call;
  if (next === undefined) throw new TokenError(CKR.pinLenRange, 'C_SetPIN', '');
  return withPins(call, [old, next], slot.setPin(session, old, next, deadline));
}

/** Methods of sections 5.5, 5.6 and 5.15. */
export const sessionMethods: Readonly<Record<string, Method>> = {
  C_GetSlotInfo: onSlot([], ({ slot }) => ({ value: slotInfo(slot) })),
  C_GetTokenInfo: onSlot([], ({ slot }) => ({ value: tokenInfo(slot) })),
  C_GetMechanismList: onSlot([], (each) => ({ open: each.open, task: mechanismListOf(each) })),
  C_GetMechanismInfo: onSlot(['ulong'], (each, type: number) => ({
    open: each.open,
    task: mechanismInfoOf(each, type),
  })),
  C_InitToken: onSlot(['text', 'text'], () => unsupported('C_InitToken')),
  C_OpenSession: onSlot(['ulong'], ({ slot }, flags: number) => ({ value: handleOf(slot.openSession(flags).handle) })),
  C_CloseAllSessions: onSlot([], ({ slot }) => ({ value: slot.closeAllSessions() })),
  C_InitPIN: onSessionNow(['text'], () => unsupported('C_InitPIN')),
  C_SetPIN: onSession(['pin', 'pin'], setPin),
  C_CloseSession: onSessionNow([], ({ slot, session }) => slot.closeSession(session)),
  C_GetSessionInfo: onSessionNow([], ({ session }) => sessionInfo(session)),
  C_Login: onSession(['ulong', 'pin'], (call, user, pin) =>
    withPins(call, [pin], call.slot.login(call.session, user, pin, call.deadline)),
  ),
  C_Logout: onSessionNow([], ({ slot }) => slot.logout()),
  C_SeedRandom: onSession(['bytes'], ({ open, deadline }, seed) => seedRandom(open.group, seed, deadline)),
  C_GenerateRandom: onSession(['output'], function* (call, output) {
    yield* fillRandom(call, output);
  }),
  C_WaitForSlotEvent: {
    takes: ['ulong'],
    run: (library, [flags]) => ({ value: nextEvent(library, flags as unknown as number) }),
  },
};

/**
 * Returns a slot whose token has come or gone since the last call. Refuses to wait, which would stop the event loop.
 */
function nextEvent(library: Library, flags: number): Buffer | null {
  if ((flags & CKF.dontBlock) === 0) return unsupported('C_WaitForSlotEvent');
  const changed = library.takeEvent();
  return changed === undefined ? null : handleOf(changed);
}
