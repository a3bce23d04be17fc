import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Running } from '../../../src/core/base/task.js';
import { runCall } from '../../../src/core/call/call.js';
import { findObjects } from '../../../src/core/call/find.js';
import { sign } from '../../../src/core/jobs/operation.js';
import type { CallName } from '../../../src/spec/calls.js';
import { ck } from '../../../src/spec/constants.js';
import { encodeMechanism } from '../../../src/spec/mechanism.js';
import { type Behaviour, type Mischief, ScriptedToken, World } from '../../support/world.js';

const hmac = encodeMechanism('m', 'SHA256_HMAC');
const key = { label: 'key', secret: 'same' };
const budget = 30_000;

// Codes about the member or its sessions; codes for errors of the caller are left out.
const codes = ['DEVICE_ERROR', 'DEVICE_REMOVED', 'TOKEN_NOT_PRESENT', 'GENERAL_ERROR', 'FUNCTION_FAILED'].concat([
  'SESSION_HANDLE_INVALID',
  'USER_NOT_LOGGED_IN',
  'SESSION_COUNT',
  'HOST_MEMORY',
  'KEY_HANDLE_INVALID',
  'MECHANISM_INVALID',
]);

const mischief: fc.Arbitrary<Mischief> = fc.oneof(
  fc.constantFrom(...codes).map((name) => ({ code: ck(`CKR_${name}`) })),
  fc.integer({ min: 1, max: 3000 }).map((delay) => ({ delay })),
  fc.constant({ silent: true } as const),
  fc.constant({ crash: true } as const),
);

const functions: readonly CallName[] = [
  'C_Sign',
  'C_SignInit',
  'X_Find',
  'C_DigestKey',
  'C_Login',
  'X_Attach',
  'X_Load',
  'C_GetTokenInfo',
  'C_GetSessionInfo',
];

const step = fc.oneof(
  fc.record({ kind: fc.constant('fault' as const), call: fc.constantFrom(...functions), mischief }),
  fc.record({ kind: fc.constant('heal' as const) }),
  fc.record({ kind: fc.constant('kill' as const) }),
  fc.record({ kind: fc.constant('calls' as const), count: fc.integer({ min: 1, max: 12 }) }),
  fc.record({ kind: fc.constant('find' as const) }),
  fc.record({ kind: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 4000 }) }),
);

test('with random faults of one member no call fails or gives a wrong result, and the member comes back', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 25 }), (steps) => {
      const [a, b] = [new ScriptedToken('A', [key]), new ScriptedToken('B', [key])];
      const world = World.open({ a, b }, { hangAfter: 1000 });
      const [object] = world.run(findObjects(world.group, [], world.now + budget));
      if (object === undefined) throw new Error('no object');
      const running: Running<Buffer>[] = [];
      let behaviour: Behaviour = () => undefined;
      a.behave = (name, job) => behaviour(name, job);
      for (const each of steps) {
        switch (each.kind) {
          case 'fault':
            behaviour = (name) => (name === each.call ? each.mischief : undefined);
            break;
          case 'heal':
            behaviour = () => undefined;
            break;
          case 'kill':
            world.hosts.get('a')?.kill();
            break;
          case 'calls':
            for (let i = 0; i < each.count; i += 1) {
              running.push(
                world.start(runCall(world.group, sign(hmac, object, Buffer.from('data')), world.now + budget)),
              );
            }
            break;
          case 'find':
            expect(world.run(findObjects(world.group, [], world.now + budget))).toEqual([object]);
            break;
          case 'pass':
            world.pass(each.ms);
            break;
        }
      }
      world.until(() => running.every(({ completed }) => completed));
      for (const { ended } of running) expect(ended).toMatchObject({ ok: true, value: Buffer.from('same:data') });
      behaviour = () => undefined;
      world.pass(90_000);
      expect([world.stateOf('a'), world.stateOf('b')]).toEqual(['active', 'active']);
    }),
    { numRuns: Number(process.env.CHAOS_RUNS ?? 400) },
  );
});
