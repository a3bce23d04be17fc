import { describe, expect, test } from '@jest/globals';
import { Missed } from '../../../src/core/records/missed.js';
import type { ChangeRecord } from '../../../src/core/records/record.js';

describe('changes that a member has missed', () => {
  const change = { operation: 'o1', missed: ['A'] } as unknown as ChangeRecord;

  test('are out of reach while the members with their journal entries are away', () => {
    const missed = new Missed();
    missed.note(change, ['B']);
    expect(missed.isOutOfReach('A', new Set(['C']))).toBe(true);
    expect(missed.isOutOfReach('A', new Set(['B', 'C']))).toBe(false);
    expect(missed.isOutOfReach('C', new Set())).toBe(false);
  });

  test('are forgotten once all members that could tell of them have left the group', () => {
    const missed = new Missed();
    missed.note(change, ['B', 'C']);
    missed.forgetLeft((serial) => serial !== 'B');
    expect([missed.count('A'), missed.isOutOfReach('A', new Set())]).toEqual([1, true]);
    missed.forgetLeft((serial) => serial === 'A');
    expect([missed.count('A'), missed.isOutOfReach('A', new Set())]).toEqual([0, false]);
  });

  test('are not out of reach once another process has applied them', () => {
    const missed = new Missed();
    missed.note(change, ['B']);
    missed.learnDone({ kind: 'done', id: '1', serial: 'A', deeds: ['o1'] });
    expect(missed.isOutOfReach('A', new Set(['C']))).toBe(false);
  });
});
