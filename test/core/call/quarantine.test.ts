import { describe, expect, test } from '@jest/globals';
import { runCall } from '../../../src/core/call/call.js';
import { sign } from '../../../src/core/jobs/operation.js';
import { ck } from '../../../src/spec/constants.js';
import { caught, hmac, many, objectIn, on, signing, twoTokens } from '../../support/signing.js';
import { type Behaviour, type Mischief, World } from '../../support/world.js';

describe('[Rule 8] a request that ends hosts', () => {
  const poison = (mischief: Mischief): Behaviour => {
    return (name, job) => {
      const data = job.steps.at(-1)?.arguments[0];
      return name === 'C_Sign' && data instanceof Uint8Array && Buffer.from('poison').equals(data)
        ? mischief
        : undefined;
    };
  };

  test.each([
    ['crashes', { crash: true }],
    ['hangs', { silent: true }],
  ] as const)('that %s every member fails alone in quarantine, and other calls succeed', (_name, mischief) => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b });
    const object = objectIn(world);
    const call = signing(world, object);
    many(call);
    for (const token of [a, b]) token.behave = poison(mischief);
    const poisoned = world.start(runCall(world.group, sign(hmac, object, Buffer.from('poison')), world.now + 20_000));
    const innocent = Array.from({ length: 20 }, () =>
      world.start(runCall(world.group, sign(hmac, object, Buffer.from('data')), world.now + 20_000)),
    );
    world.until(() => poisoned.completed && innocent.every(({ completed }) => completed));
    expect(innocent.map(({ ended }) => ended?.ok)).toEqual(innocent.map(() => true));
    expect(poisoned.ended).toMatchObject({ ok: false, error: { code: ck('CKR_FUNCTION_FAILED') } });
    expect(world.group.counters.quarantined).toBeGreaterThan(0);
    many(call);
  });
});

describe('the quarantine', () => {
  test('of a call for one member only asks no other member', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b });
    const object = objectIn(world);
    b.behave = on('C_Sign', { crash: true });
    const member = world.group.members.find(({ name }) => name === 'b');
    const before = a.signatures;
    const call = { ...sign(hmac, object, Buffer.from('data')), only: member };
    expect(caught(() => world.run(runCall(world.group, call, world.now + 10_000)))).toBeInstanceOf(Error);
    expect(a.signatures).toBe(before);
  });

  test('starts another host when its host does not see the token at first', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b });
    const object = objectIn(world);
    const call = signing(world, object);
    many(call);
    let crashes = 2;
    let blind = 0;
    for (const token of [a, b]) {
      token.behave = (name) => {
        if (name === 'C_Sign' && crashes-- > 0) return { crash: true };
        // Makes every host that starts after the crashes blind twice.
        return name === 'C_GetSlotList' && blind++ < 6 ? { code: ck('CKR_GENERAL_ERROR') } : undefined;
      };
    }
    expect(call()).toBe('same:data');
    expect(world.group.counters.quarantined).toBe(1);
  });
});
