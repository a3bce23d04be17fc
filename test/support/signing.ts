import { expect } from '@jest/globals';
import type { TokenError } from '../../src/core/base/error.js';
import { runCall } from '../../src/core/call/call.js';
import { findObjects } from '../../src/core/call/find.js';
import { sign } from '../../src/core/jobs/operation.js';
import type { VirtualObject } from '../../src/core/objects/object.js';
import { encodeMechanism, type Mechanism } from '../../src/spec/mechanism.js';
import { type Behaviour, type Mischief, ScriptedToken, type World } from './world.js';

/** Mechanism of all signatures here. */
export const hmac: Mechanism = encodeMechanism('m', 'SHA256_HMAC');
/** Key that both scripted tokens have. */
export const key = { label: 'key', secret: 'same' };

/** Makes two scripted tokens with one key. */
export function twoTokens(): { a: ScriptedToken; b: ScriptedToken } {
  return { a: new ScriptedToken('A', [key]), b: new ScriptedToken('B', [key]) };
}

/** Returns the first object that a find in the world gives. */
export function objectIn(world: World): VirtualObject {
  const [object] = world.run(findObjects(world.group, [], world.now + 10_000));
  if (object === undefined) throw new Error('no object');
  return object;
}

/** Returns a function that signs once and returns the signature as text. */
export function signing(world: World, object: VirtualObject): () => string {
  return () => world.run(runCall(world.group, sign(hmac, object, Buffer.from('data')), world.now + 10_000)).toString();
}

/** Returns a behaviour that does `mischief` at one function. */
export const on =
  (call: string, mischief: Mischief): Behaviour =>
  (name) =>
    name === call ? mischief : undefined;

/** Returns the error that a call throws; throws if there is none. */
export function caught(call: () => unknown): TokenError {
  try {
    call();
  } catch (error) {
    return error as TokenError;
  }
  throw new Error('the call did not throw');
}

/** Signs many times and checks each signature. */
export const many = (call: () => string, count = 40): void => {
  for (let i = 0; i < count; i += 1) expect(call()).toBe('same:data');
};
