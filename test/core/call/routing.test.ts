import { describe, expect, test } from '@jest/globals';
import { type Candidate, route } from '../../../src/core/call/routing.js';

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
    rotation: 0,
    lastAsked: undefined,
  } as const;
  const chosen = (members: readonly Numbered[], extra: object = {}): number | undefined =>
    route(members, { ...request, ...extra }, () => false)?.index;

  test('takes an active member before a standby before a suspect one, and never one that is down', () => {
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

  test('takes the member with the lower cost', () => {
    expect(chosen([candidate(0, 'active', { cost: 9 }), candidate(1, 'active', { cost: 2 })])).toBe(1);
    expect(chosen([candidate(0, 'active', { cost: 2 }), candidate(1, 'active', { cost: 9 })])).toBe(0);
  });

  test('takes the last member again while it is idle and costs no more than others', () => {
    const [other, lastAsked] = [candidate(0, 'active'), candidate(1, 'active')];
    expect(chosen([other, lastAsked])).toBe(0);
    expect(chosen([other, lastAsked], { lastAsked })).toBe(1);
    expect(chosen([other, lastAsked], { lastAsked: candidate(2, 'down') })).toBe(0);
    const busy = candidate(1, 'active', { connection: { end: undefined, load: 1, replicas: new Map() } });
    expect(chosen([other, busy], { lastAsked: busy })).toBe(0);
    const slow = candidate(1, 'active', { cost: 2 });
    expect(chosen([other, slow], { lastAsked: slow })).toBe(0);
  });

  test('balance primary takes the first member that serves, round robin takes each in rotation', () => {
    const members = [candidate(0, 'active', { cost: 9 }), candidate(1, 'active')];
    expect(chosen(members, { balance: 'primary' })).toBe(0);
    expect([0, 1, 2, 3].map((rotation) => chosen(members, { balance: 'roundRobin', rotation }))).toEqual([0, 1, 0, 1]);
  });

  test('takes no member that lacks the object, is busy or has lost its host', () => {
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
