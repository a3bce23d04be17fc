import { describe, expect, test } from '@jest/globals';
import { backoff } from '../../../src/core/base/backoff.js';

describe('back-off', () => {
  test('starts at zero, doubles with jitter and has an upper limit', () => {
    expect(backoff(0, 100, 5000, 0.9)).toBe(0);
    expect([backoff(1, 100, 5000, 0), backoff(1, 100, 5000, 1)]).toEqual([50, 100]);
    expect(backoff(3, 100, 5000, 1)).toBe(400);
    expect(backoff(40, 100, 5000, 1)).toBe(5000);
  });
});
