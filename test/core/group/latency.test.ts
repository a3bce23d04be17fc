import { describe, expect, test } from '@jest/globals';
import { attemptTimeout, LatencyTable } from '../../../src/core/group/latency.js';

describe('the latency of operations', () => {
  test('has an upper bound once an operation has run a few times', () => {
    const table = new LatencyTable();
    expect(table.boundOf('sign')).toBeUndefined();
    for (let i = 0; i < 50; i += 1) table.update('sign', 10 + (i % 3));
    expect(table.boundOf('sign')).toBeGreaterThan(12);
    expect(table.boundOf('sign')).toBeLessThan(20);
    expect(table.meanOf('sign')).toBeCloseTo(11, 0);
  });

  test('gives longer operations a longer time-out, within limits', () => {
    expect(attemptTimeout(undefined, 2000)).toBe(400);
    expect(attemptTimeout(1, 2000)).toBe(20);
    expect(attemptTimeout(100, 2000)).toBe(300);
    expect(attemptTimeout(10_000, 2000)).toBe(2000);
  });
});
