import { expect } from '@jest/globals';
import type { TokenError } from '../../src/core/base/error.js';
import { runCall } from '../../src/core/call/call.js';
import { findObjects } from '../../src/core/call/find.js';
import { sign } from '../../src/core/jobs/operation.js';
import type { VirtualObject } from '../../src/core/objects/object.js';
import { encodeMechanism, type Mechanism } from '../../src/spec/mechanism.js';
import { type Behaviour, type Mischief, ScriptedToken, type World } from './world.js';

// Calls on two scripted tokens with one key.

export const hmac: Mechanism = encodeMechanism('m', 'SHA256_HMAC');
export const key = { label: 'key', secret: 'same' };

export function twoTokens(): { a: ScriptedToken; b: ScriptedToken } {
  return { a: new ScriptedToken('A', [key]), b: new ScriptedToken('B', [key]) };
}

export function objectIn(world: World): VirtualObject {
  const [object] = world.run(findObjects(world.group, [], world.now + 10_000));
  if (object === undefined) throw new Error('no object');
  return object;
}

export function signing(world: World, object: VirtualObject): () => string {
  return () => world.run(runCall(world.group, sign(hmac, object, Buffer.from('data')), world.now + 10_000)).toString();
}

export const on =
  (call: string, mischief: Mischief): Behaviour =>
  (name) =>
    name === call ? mischief : undefined;

export function caught(call: () => unknown): TokenError {
  try {
    call();
  } catch (error) {
    return error as TokenError;
  }
  throw new Error('it did not throw');
}

export const many = (call: () => string, count = 40): void => {
  for (let i = 0; i < count; i += 1) expect(call()).toBe('same:data');
};
