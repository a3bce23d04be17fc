import { describe, expect, test } from '@jest/globals';
import type { Running } from '../../../src/core/base/task.js';
import { runCall } from '../../../src/core/call/call.js';
import { findObjects } from '../../../src/core/call/find.js';
import { encrypt, type Operation, sign } from '../../../src/core/jobs/operation.js';
import { ck } from '../../../src/spec/constants.js';
import { encodeMechanism } from '../../../src/spec/mechanism.js';
import { caught, hmac, key, many, objectIn, on, signing, twoTokens } from '../../support/signing.js';
import { type Behaviour, ScriptedToken, World } from '../../support/world.js';

describe('failing over', () => {
  // Rows: fault of member a, and the state that member a gets.
  test.each([
    ['DEVICE_ERROR', on('C_Sign', { code: ck('CKR_DEVICE_ERROR') }), 'suspect'],
    ['DEVICE_REMOVED', on('C_SignInit', { code: ck('CKR_DEVICE_REMOVED') }), 'suspect'],
    ['TOKEN_NOT_PRESENT', on('C_Sign', { code: ck('CKR_TOKEN_NOT_PRESENT') }), 'suspect'],
    ['FUNCTION_FAILED while the other succeeds', on('C_Sign', { code: ck('CKR_FUNCTION_FAILED') }), 'suspect'],
    ['a code of the vendor while the other succeeds', on('C_Sign', { code: 0x8000_0001 }), 'suspect'],
    ['SESSION_HANDLE_INVALID again and again', on('C_Sign', { code: ck('CKR_SESSION_HANDLE_INVALID') }), 'suspect'],
    ['HOST_MEMORY', on('C_Sign', { code: ck('CKR_HOST_MEMORY') }), 'active'],
    ['MECHANISM_INVALID', on('C_SignInit', { code: ck('CKR_MECHANISM_INVALID') }), 'active'],
    ['a crash', on('C_Sign', { crash: true }), 'down'],
    ['silence', on('C_Sign', { silent: true }), 'suspect'],
  ] as const)('%s on one member: no call fails', (name, behaviour, state) => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b });
    const call = signing(world, objectIn(world));
    many(call);
    a.behave = behaviour;
    many(call);
    const states = world.events.flatMap((event) => (event.type === 'member' && event.member === 'a' ? [event.to] : []));
    expect(states.slice(1).includes(state) || state === 'active').toBe(true);
    if (state === 'active') expect(states.slice(1)).toEqual([]);
    if (name === 'MECHANISM_INVALID') return; // Members without a mechanism keep that mark until they join again.
    a.behave = () => undefined;
    world.pass(5000);
    expect(world.stateOf('a')).toBe('active');
    const before = a.signatures;
    many(call);
    expect(a.signatures).toBeGreaterThan(before);
  });

  test('a member that fails again and again rests longer each time, and its host is replaced when probes fail too', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b }, { balance: 'primary' });
    const call = signing(world, objectIn(world));
    const rests: number[] = [];
    const fail = (behaviour: Behaviour, until: () => boolean): void => {
      a.behave = behaviour;
      many(call, 2);
      const failedAt = world.now;
      expect(world.stateOf('a')).toBe('suspect');
      world.until(until);
      rests.push(world.now - failedAt);
    };
    const deviceError = { code: ck('CKR_DEVICE_ERROR') };
    for (let i = 0; i < 9; i += 1) fail(on('C_Sign', deviceError), () => world.stateOf('a') === 'active');
    expect(rests[0]).toBeLessThan(100);
    expect(rests.at(-1)).toBeGreaterThan(2000);
    expect(a.hosts).toBe(1);
    // Allows four probes, with pauses of up to 50, 100 and 200 ms.
    const isDead: Behaviour = (name) => (name === 'C_Sign' || name === 'C_GetSessionInfo' ? deviceError : undefined);
    fail(isDead, () => a.hosts === 2);
    expect(rests.at(-1)).toBeLessThan(400);
  });

  test('[Rule 7] failing over never sleeps: the next member is asked in the same instant', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b }, { balance: 'primary' });
    const call = signing(world, objectIn(world));
    many(call, 5);
    a.behave = on('C_Sign', { code: ck('CKR_DEVICE_ERROR') });
    const started = world.now;
    call();
    expect(world.now - started).toBeLessThanOrEqual(a.latency + 4 * b.latency);
  });

  test('[Rule 3] a failover event names every attempt with its outcome', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b }, { balance: 'primary' });
    const call = signing(world, objectIn(world));
    a.behave = on('C_Sign', { code: ck('CKR_DEVICE_ERROR') });
    call();
    expect(world.events.filter(({ type }) => type === 'failover')).toMatchObject([
      {
        function: 'C_Sign',
        member: 'b',
        attempts: [{ member: 'a', function: 'C_Sign', code: 0x30, outcome: 'CKR_DEVICE_ERROR' }],
      },
    ]);
  });
});

describe('judging', () => {
  test('an error of the caller is thrown at once, and no member is blamed or asked twice', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b });
    const object = objectIn(world);
    const operation: Operation<Buffer> = encrypt(encodeMechanism('m', 'AES_ECB'), object, Buffer.alloc(16));
    const error = caught(() => world.run(runCall(world.group, operation, world.now + 10_000)));
    expect(error).toMatchObject({ code: ck('CKR_KEY_FUNCTION_NOT_PERMITTED'), method: 'C_EncryptInit' });
    expect(error.attempts).toHaveLength(1);
    expect([...a.calls, ...b.calls].filter((call) => call === 'C_EncryptInit')).toHaveLength(1);
    expect(world.stateOf('a')).toBe('active');
  });

  test('[Rule 3] an ambiguous code that two members give is thrown at once with both attempts, and both stay active', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b });
    const object = objectIn(world);
    const call = signing(world, object);
    many(call);
    for (const token of [a, b]) token.behave = on('C_Sign', { code: ck('CKR_GENERAL_ERROR') });
    const started = world.now;
    const error = caught(call);
    expect(error).toMatchObject({ code: ck('CKR_GENERAL_ERROR'), method: 'C_Sign' });
    expect(error.attempts.map(({ member }) => member).sort()).toEqual(['a', 'b']);
    expect(world.now - started).toBeLessThan(20);
    expect([world.stateOf('a'), world.stateOf('b')]).toEqual(['active', 'active']);
  });

  test('a mechanism that only one member has is routed to it, and one that no member has is an error', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b });
    const call = signing(world, objectIn(world));
    a.behave = on('C_SignInit', { code: ck('CKR_MECHANISM_INVALID') });
    many(call);
    const asked = a.calls.filter((name) => name === 'C_SignInit').length;
    expect(asked).toBe(1);
    b.behave = a.behave;
    expect(caught(call)).toMatchObject({ code: ck('CKR_MECHANISM_INVALID') });
  });

  test.each([
    ['a mechanism that it lacks', on('C_SignInit', { code: ck('CKR_MECHANISM_INVALID') }), 'b lacks the mechanism'],
    ['an ambiguous answer', on('C_Sign', { code: ck('CKR_FUNCTION_FAILED') }), 'C_Sign'],
  ])('a call for one member only: %s is reported at once', (_name, behaviour, said) => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b });
    const object = objectIn(world);
    b.behave = behaviour;
    const member = world.group.members.find(({ name }) => name === 'b');
    const before = world.now;
    const call = { ...sign(hmac, object, Buffer.from('data')), only: member };
    const error = caught(() => world.run(runCall(world.group, call, world.now + 10_000)));
    expect(error.message).toContain(said);
    expect(world.now - before).toBeLessThan(10);
    many(signing(world, object), 3);
  });

  test('a verdict in the configuration takes precedence over the standard one', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b }, { balance: 'primary', verdicts: { CKR_GENERAL_ERROR: 'caller' } });
    const call = signing(world, objectIn(world));
    a.behave = on('C_Sign', { code: ck('CKR_GENERAL_ERROR') });
    expect(caught(call).attempts).toHaveLength(1);
  });
});

describe('deadlines', () => {
  test('[Rule 2] with all members away a call ends at its deadline, with its attempts', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b });
    const object = objectIn(world);
    for (const token of [a, b]) token.behave = () => ({ silent: true });
    const started = world.now;
    const error = caught(() => world.run(runCall(world.group, sign(hmac, object, Buffer.from('data')), started + 700)));
    expect(world.now - started).toBe(700);
    expect(error.code).toBe(ck('CKR_DEVICE_ERROR'));
    expect(new Set(error.attempts.map(({ member }) => member))).toEqual(new Set(['a', 'b']));
  });

  test('[Rule 2] a call waits for a member that comes back before its deadline', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b });
    const call = signing(world, objectIn(world));
    for (const token of [a, b]) token.behave = () => ({ code: ck('CKR_DEVICE_REMOVED') });
    world.after(1500, () => {
      b.behave = () => undefined;
    });
    many(call, 1);
  });
});

describe('late attempts', () => {
  test('[Rule 7] a late attempt gets a second one beside it, and the first answer wins', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b }, { balance: 'primary' });
    const call = signing(world, objectIn(world));
    many(call);
    let slow = true;
    a.behave = (name) => (name === 'C_Sign' && slow ? { delay: 1000 } : undefined);
    const started = world.now;
    call();
    slow = false;
    expect(world.now - started).toBeLessThan(100);
    expect(world.group.counters.hedged).toBe(1);
  });

  test('[Rule 7] second attempts stay a small share of all calls', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b }, { balance: 'primary', hangAfter: 60_000, attemptTimeout: 5 });
    const object = objectIn(world);
    const start = (text: string): Running<unknown> =>
      world.start(runCall(world.group, sign(hmac, object, Buffer.from(text)), world.now + 10_000));
    const slow: Behaviour = (name, job) => {
      const data = job.steps.at(-1)?.arguments[0];
      return name === 'C_Sign' && data instanceof Uint8Array && Buffer.from('slow').equals(data)
        ? { delay: 8 }
        : undefined;
    };
    for (const token of [a, b]) token.behave = slow;
    // Makes every slow call late, while quick calls show that the members are well.
    for (let i = 0; i < 300; i += 1) {
      const late = start('slow');
      while (!late.completed) {
        const quick = start('data');
        world.until(() => quick.completed);
      }
    }
    const { calls, hedged } = world.group.counters;
    expect(hedged).toBeGreaterThan(16);
    expect(hedged).toBeLessThanOrEqual(16 + calls * 0.05);
  });

  test('if the second attempt gets an ambiguous code, the call waits for the first', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b }, { balance: 'primary' });
    const call = signing(world, objectIn(world));
    many(call);
    a.behave = on('C_Sign', { delay: 1000 });
    b.behave = on('C_Sign', { code: ck('CKR_GENERAL_ERROR') });
    expect(call()).toBe('same:data');
  });
});

describe('faults that pass', () => {
  test('a mechanism that all members refused once is tried again at the next call', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b });
    const call = signing(world, objectIn(world));
    for (const token of [a, b]) token.behave = on('C_SignInit', { code: ck('CKR_MECHANISM_INVALID') });
    expect(caught(call)).toMatchObject({ code: ck('CKR_MECHANISM_INVALID') });
    for (const token of [a, b]) token.behave = () => undefined;
    many(call);
  });

  test('the only holder of a key is asked again after one ambiguous answer', () => {
    const [a, b] = [new ScriptedToken('A', [key]), new ScriptedToken('B', [])];
    const world = World.open({ a, b });
    const call = signing(world, objectIn(world));
    let first = true;
    a.behave = (name) => {
      if (name !== 'C_Sign' || !first) return undefined;
      first = false;
      return { code: ck('CKR_GENERAL_ERROR') };
    };
    const started = world.now;
    expect(call()).toBe('same:data');
    expect(world.now - started).toBeLessThan(100);
  });

  test('sessions that both members lose twice during a call are opened again twice', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b });
    const call = signing(world, objectIn(world));
    many(call);
    for (const token of [a, b]) {
      let [drops, isLost] = [2, false];
      token.behave = (name) => {
        if (name === 'C_SignInit' && drops > 0) [drops, isLost] = [drops - 1, true];
        if (name === 'C_Login') isLost = false;
        return isLost && name !== 'X_Attach' ? { code: ck('CKR_SESSION_HANDLE_INVALID') } : undefined;
      };
    }
    expect(call()).toBe('same:data');
    expect([world.stateOf('a'), world.stateOf('b')]).toEqual(['active', 'active']);
  });

  test('a find goes on after members have been busy', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b });
    let busy = 2;
    for (const token of [a, b]) {
      token.behave = (name) => (name === 'X_Find' && busy-- > 0 ? { code: ck('CKR_SESSION_COUNT') } : undefined);
    }
    expect(world.run(findObjects(world.group, [], world.now + 10_000))).toHaveLength(1);
    expect(world.now).toBeLessThan(500);
  });

  test('a code of a lost session that a new session and login do not mend is thrown, and no member is blamed', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b });
    const call = signing(world, objectIn(world));
    many(call);
    for (const token of [a, b]) token.behave = on('C_Sign', { code: ck('CKR_USER_NOT_LOGGED_IN') });
    const started = world.now;
    expect(caught(call)).toMatchObject({ code: ck('CKR_USER_NOT_LOGGED_IN') });
    expect(world.now - started).toBeLessThan(100);
    expect([world.stateOf('a'), world.stateOf('b')]).toEqual(['active', 'active']);
  });
});

describe('renewed logins', () => {
  const sessionLost = (then: Behaviour): Behaviour => {
    return (name, job) => (name === 'C_Sign' ? { code: ck('CKR_SESSION_HANDLE_INVALID') } : then(name, job));
  };

  test('[Rule 6] a PIN that is refused at a renewed login is not tried again', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b }, { balance: 'primary' });
    const call = signing(world, objectIn(world));
    many(call, 5);
    const before = a.calls.filter((name) => name === 'C_Login').length;
    a.behave = sessionLost(on('C_Login', { code: ck('CKR_PIN_INCORRECT') }));
    many(call, 20);
    world.pass(60_000);
    many(call, 20);
    expect(a.calls.filter((name) => name === 'C_Login').length - before).toBe(1);
    expect(world.stateOf('a')).toBe('down');
  });

  test('[Rule 10] a renewed login that hangs delays no call', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b }, { balance: 'primary', hangAfter: 5000 });
    const call = signing(world, objectIn(world));
    many(call);
    a.behave = sessionLost(on('C_Login', { silent: true }));
    const started = world.now;
    expect(call()).toBe('same:data');
    expect(world.now - started).toBeLessThan(1000);
    world.pass(60_000);
    a.behave = () => undefined;
    world.pass(60_000);
    expect(world.stateOf('a')).toBe('active');
  });
});

describe('a member that comes back', () => {
  test('[Rule 10] delays no call by its new host, its login or its probes', () => {
    const { a, b } = twoTokens();
    const world = World.open({ a, b });
    const call = signing(world, objectIn(world));
    many(call);
    let crashes = 1;
    a.behave = (name) => {
      if (name === 'C_Sign' && crashes-- > 0) return { crash: true };
      return ['X_Load', 'X_Attach', 'C_Login', 'C_GetSessionInfo'].includes(name) ? { delay: 300 } : undefined;
    };
    const loads = (): number => a.calls.filter((name) => name === 'X_Load').length;
    const before = loads();
    let longest = 0;
    for (let i = 0; i < 400; i += 1) {
      const started = world.now;
      call();
      longest = Math.max(longest, world.now - started);
      world.pass(5);
    }
    expect(loads()).toBeGreaterThan(before);
    expect(longest).toBeLessThan(100);
    expect(world.stateOf('a')).toBe('active');
  });
});

describe('an empty answer of one member', () => {
  test('[Rule 14] hides no object that another member has', () => {
    const [blind, b] = [new ScriptedToken('A', [key]), new ScriptedToken('B', [key])];
    const world = World.open({ blind, b }, { balance: 'primary' });
    blind.keys = [];
    const found = world.run(findObjects(world.group, [], world.now + 10_000));
    expect(found).toHaveLength(1);
    many(signing(world, objectIn(world)), 5);
    expect(blind.signatures).toBe(0);
    expect(b.signatures).toBe(5);
  });
});

describe('[Rule 12] another key of the same name', () => {
  const other = { label: 'key', secret: 'other' };

  test('is not used although its token fails to give the proof', () => {
    const [a, b] = [new ScriptedToken('A', [key]), new ScriptedToken('B', [other])];
    const world = World.open({ a, b }, { balance: 'roundRobin' });
    const object = objectIn(world);
    b.behave = on('C_DigestInit', { code: ck('CKR_GENERAL_ERROR') });
    many(signing(world, object));
    b.behave = () => undefined;
    many(signing(world, object));
    world.pass(10_000);
    many(signing(world, object));
    expect(b.signatures).toBe(0);
  });

  test('is not used although the first member fails to give the reference', () => {
    const [a, b] = [new ScriptedToken('A', [key]), new ScriptedToken('B', [other])];
    const world = World.open({ a, b }, { balance: 'roundRobin' });
    const object = objectIn(world);
    let first = true;
    a.behave = (name) => {
      if (name !== 'C_DigestKey' || !first) return undefined;
      first = false;
      return { code: ck('CKR_DEVICE_ERROR') };
    };
    many(signing(world, object));
    expect(b.signatures).toBe(0);
  });

  test('is used after the token was given the right key', () => {
    const [a, b] = [new ScriptedToken('A', [key]), new ScriptedToken('B', [other])];
    const world = World.open({ a, b }, { balance: 'roundRobin' });
    const call = signing(world, objectIn(world));
    many(call);
    expect(b.signatures).toBe(0);
    b.keys = [key];
    world.pass(6000);
    many(call);
    expect(b.signatures).toBeGreaterThan(0);
  });
});
