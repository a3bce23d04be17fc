import { describe, expect, test } from '@jest/globals';
import { Missed } from '../../../src/core/records/missed.js';
import type { ChangeRecord } from '../../../src/core/records/record.js';

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
