import { createHash } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { backoff } from '../../src/core/base/backoff.js';
import { Mutex } from '../../src/core/base/mutex.js';
import { type MemberState, moved } from '../../src/core/base/state.js';
import type { Task } from '../../src/core/base/task.js';
import { type Candidate, route } from '../../src/core/call/routing.js';
import { HedgeBudget } from '../../src/core/group/hedge.js';
import { attemptTimeout, LatencyTable } from '../../src/core/group/latency.js';
import { LoginGate } from '../../src/core/group/login-gate.js';
import { CKK, CKO, type Description, identityOf, isProvenByIdentity } from '../../src/core/objects/identity.js';
import { ObjectTable } from '../../src/core/objects/object.js';
import { Missed } from '../../src/core/records/missed.js';
import type { ChangeRecord } from '../../src/core/records/record.js';
import { Scheduler } from '../../src/runtime/scheduler.js';

describe('back-off', () => {
  test('starts at once, doubles with jitter and has an end', () => {
    expect(backoff(0, 100, 5000, 0.9)).toBe(0);
    expect([backoff(1, 100, 5000, 0), backoff(1, 100, 5000, 1)]).toEqual([50, 100]);
    expect(backoff(3, 100, 5000, 1)).toBe(400);
    expect(backoff(40, 100, 5000, 1)).toBe(5000);
  });
});

describe('what a member has missed', () => {
  const change = { operation: 'o1', missed: ['A'] } as unknown as ChangeRecord;

  test('is out of reach while those that have it in writing are away', () => {
    const missed = new Missed();
    missed.note(change, ['B']);
    expect(missed.isOutOfReach('A', new Set(['C']))).toBe(true);
    expect(missed.isOutOfReach('A', new Set(['B', 'C']))).toBe(false);
    expect(missed.isOutOfReach('C', new Set())).toBe(false);
  });

  test('is so no longer when another process has told it', () => {
    const missed = new Missed();
    missed.note(change, ['B']);
    missed.learnDone({ kind: 'done', id: '1', serial: 'A', deeds: ['o1'] });
    expect(missed.isOutOfReach('A', new Set(['C']))).toBe(false);
  });
});

describe('the latency of operations', () => {
  test('gives a bound once it has been seen a few times, which hardly any exceed', () => {
    const table = new LatencyTable();
    expect(table.boundOf('sign')).toBeUndefined();
    for (let i = 0; i < 50; i += 1) table.update('sign', 10 + (i % 3));
    expect(table.boundOf('sign')).toBeGreaterThan(12);
    expect(table.boundOf('sign')).toBeLessThan(20);
    expect(table.meanOf('sign')).toBeCloseTo(11, 0);
  });

  test('an attempt waits longer for what takes longer, within limits', () => {
    expect(attemptTimeout(undefined, 2000)).toBe(400);
    expect(attemptTimeout(1, 2000)).toBe(20);
    expect(attemptTimeout(100, 2000)).toBe(300);
    expect(attemptTimeout(10_000, 2000)).toBe(2000);
  });
});

test('whoever waits for its turn longer than it may leaves, and the others keep theirs', () => {
  let now = 0;
  const scheduler = new Scheduler(() => now);
  const turns = new Mutex();
  const order: string[] = [];
  const working = function* (name: string, until: number): Task<void> {
    while (now < until) yield { signals: [], until };
    order.push(name);
  };
  scheduler.start(turns.runExclusive(working('long', 1000)));
  const leaving = scheduler.start(turns.runExclusive(working('leaves', 0), 100));
  const last = scheduler.start(turns.runExclusive(working('last', 0)));
  for (now of [100, 500, 1000]) scheduler.step();
  expect(leaving.ended).toMatchObject({ ok: false, error: { code: 0x1b } });
  expect([order, last.ended]).toEqual([['long', 'last'], { ok: true, value: undefined }]);
});

test('second attempts are earned: a twentieth of all calls after the first few', () => {
  const budget = new HedgeBudget();
  let taken = 0;
  for (let i = 0; i < 1000; i += 1) {
    budget.earn();
    if (budget.take()) taken += 1;
  }
  expect(taken).toBeGreaterThanOrEqual(50);
  expect(taken).toBeLessThanOrEqual(66);
});

describe('member states', () => {
  const state = (name: MemberState['name']): MemberState =>
    ({ name, since: 0, reason: '', code: undefined, retryAt: 0 }) as unknown as MemberState;

  test('legal moves are made, illegal ones throw', () => {
    expect(moved(state('active'), state('suspect')).name).toBe('suspect');
    expect(() => moved(state('down'), state('active'))).toThrow('a member cannot go from down to active');
    expect(() => moved(state('suspect'), state('joining'))).toThrow();
  });
});

describe('the login gate', () => {
  test('lets one try until the PIN is proven, then all', () => {
    const gate = new LoginGate();
    expect([gate.enter(), gate.enter()]).toEqual([true, false]);
    gate.leave('unknown', 0, 'a');
    expect(gate.enter()).toBe(true);
    gate.leave('right', 0, 'b');
    expect([gate.enter(), gate.enter()]).toEqual([true, true]);
    gate.leave('wrong', 0xa0, 'c');
    expect(gate.enter()).toBe(true);
  });

  test('a wrong PIN that was never right ends all logins', () => {
    const gate = new LoginGate();
    gate.enter();
    gate.leave('wrong', 0xa0, 'a');
    expect(gate.enter()).toBe(false);
    expect(gate.refusal).toEqual({ code: 0xa0, member: 'a' });
  });
});

describe('routing', () => {
  type Numbered = Candidate & { readonly index: number };
  const candidate = (index: number, state: string, extra: object = {}): Numbered =>
    ({
      index,
      state: { name: state },
      cost: 1,
      busyUntil: 0,
      lacking: new Map<string, number>(),
      connection: { end: undefined, load: 0, replicas: new Map() },
      ...extra,
    }) as Numbered;
  const request = {
    objects: [],
    ability: 'C_Sign:1',
    now: 10,
    balance: 'leastOutstanding',
    random: () => 0,
    turn: 0,
    warm: undefined,
  } as const;
  const chosen = (members: readonly Numbered[], extra: object = {}): number | undefined =>
    route(members, { ...request, ...extra }, () => false)?.index;

  test('active before standby before those in doubt, and nobody who is down', () => {
    const [active, standby, suspect, down] = [
      candidate(0, 'active'),
      candidate(1, 'standby'),
      candidate(2, 'suspect'),
      candidate(3, 'down'),
    ];
    expect(chosen([down, suspect, standby, active])).toBe(0);
    expect(chosen([down, suspect, standby])).toBe(1);
    expect(chosen([down, suspect])).toBe(2);
    expect(chosen([down])).toBeUndefined();
  });

  test('of two the one with less to do', () => {
    expect(chosen([candidate(0, 'active', { cost: 9 }), candidate(1, 'active', { cost: 2 })])).toBe(1);
    expect(chosen([candidate(0, 'active', { cost: 2 }), candidate(1, 'active', { cost: 9 })])).toBe(0);
  });

  test('the one that was asked last, as long as it has nothing to do and is no worse than others', () => {
    const [other, warm] = [candidate(0, 'active'), candidate(1, 'active')];
    expect(chosen([other, warm])).toBe(0);
    expect(chosen([other, warm], { warm })).toBe(1);
    expect(chosen([other, warm], { warm: candidate(2, 'down') })).toBe(0);
    const busy = candidate(1, 'active', { connection: { end: undefined, load: 1, replicas: new Map() } });
    expect(chosen([other, busy], { warm: busy })).toBe(0);
    const slow = candidate(1, 'active', { cost: 2 });
    expect(chosen([other, slow], { warm: slow })).toBe(0);
  });

  test('primary takes the first that is there, round robin takes turns', () => {
    const members = [candidate(0, 'active', { cost: 9 }), candidate(1, 'active')];
    expect(chosen(members, { balance: 'primary' })).toBe(0);
    expect([0, 1, 2, 3].map((turn) => chosen(members, { balance: 'roundRobin', turn }))).toEqual([0, 1, 0, 1]);
  });

  test('not who lacks the mechanism or the object, who is busy or whose host has ended', () => {
    const object = {} as never;
    expect(chosen([candidate(0, 'active', { busyUntil: 99 })])).toBeUndefined();
    expect(chosen([candidate(0, 'active', { busyUntil: 11 })])).toBeUndefined();
    expect(chosen([candidate(0, 'active', { connection: { end: {}, replicas: new Map() } })])).toBeUndefined();
    const knowing = (replica: object): Numbered =>
      candidate(0, 'active', { connection: { end: undefined, replicas: new Map([[object, replica]]) } });
    expect(chosen([knowing({ kind: 'misaligned', until: 11 })], { objects: [object] })).toBeUndefined();
    expect(chosen([knowing({ kind: 'misaligned', until: 10 })], { objects: [object] })).toBe(0);
    expect(chosen([knowing({ kind: 'absent', until: 11 })], { objects: [object] })).toBeUndefined();
    expect(chosen([knowing({ kind: 'absent', until: 10 })], { objects: [object] })).toBe(0);
    expect(chosen([knowing({ kind: 'usable' })], { objects: [object] })).toBe(0);
  });
});

describe('identities and handles', () => {
  const hash = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();
  const empty = new Uint8Array();
  const description = (extra: Partial<Description> = {}): Description => ({
    class: CKO.secretKey as number,
    type: CKK.aes as number,
    id: Uint8Array.of(1),
    label: Buffer.from('key'),
    modulus: empty,
    publicExponent: empty,
    ecParams: empty,
    ecPoint: empty,
    prime: empty,
    subprime: empty,
    base: empty,
    token: true,
    private: true,
    alwaysAuthenticate: false,
    signs: false,
    encrypts: false,
    derives: false,
    ...extra,
  });

  test('what an object may do is no part of what it is', () => {
    expect(identityOf(description({ signs: true, encrypts: true }))).toEqual(identityOf(description()));
    expect(identityOf(description({ label: Buffer.from('other') }))).not.toEqual(identityOf(description()));
  });

  test('bytes do not move from one attribute to the next', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 8 }),
        fc.uint8Array({ maxLength: 8 }),
        fc.uint8Array({ maxLength: 8 }),
        fc.uint8Array({ maxLength: 8 }),
        (id, label, otherId, otherLabel) => {
          const same = Buffer.compare(id, otherId) === 0 && Buffer.compare(label, otherLabel) === 0;
          const [one, two] = [
            identityOf(description({ id, label })),
            identityOf(description({ id: otherId, label: otherLabel })),
          ];
          expect(Buffer.compare(one, two) === 0).toBe(same);
        },
      ),
    );
  });

  test('only public material proves an object by its identity', () => {
    expect(isProvenByIdentity(description())).toBe(false);
    expect(isProvenByIdentity(description({ class: CKO.privateKey as number, type: CKK.ec as number }))).toBe(false);
    expect(
      isProvenByIdentity(
        description({ class: CKO.privateKey as number, type: CKK.rsa as number, modulus: Uint8Array.of(5) }),
      ),
    ).toBe(true);
    expect(isProvenByIdentity(description({ class: CKO.publicKey as number, type: CKK.ec as number }))).toBe(false);
  });

  test('a handle has 48 bits, comes from the identity alone, and a collision hashes again', () => {
    const [one, two] = [new ObjectTable(hash), new ObjectTable(hash)];
    const identity = identityOf(description());
    const object = one.intern(identity, description());
    expect(object.handle).toBe(two.intern(identity, description()).handle);
    expect(one.intern(Buffer.from(identity), description())).toBe(object);
    expect(object.handle).toBeLessThan(2 ** 48);
    // A hash whose first results are all the same.
    let calls = 0;
    const colliding = new ObjectTable((bytes) => (calls++ < 3 ? new Uint8Array(32).fill(7) : hash(bytes)));
    const handles = [1, 2, 3].map((byte) => colliding.intern(Uint8Array.of(byte), description()).handle);
    expect(new Set(handles).size).toBe(3);
  });
});
