import { expect, test } from '@jest/globals';
import { HedgeBudget } from '../../../src/core/group/hedge.js';

test('[Rule 7] second attempts are limited to a twentieth of all calls after the first few', () => {
  const budget = new HedgeBudget();
  let taken = 0;
  for (let i = 0; i < 1000; i += 1) {
    budget.earn();
    if (budget.take()) taken += 1;
  }
  expect(taken).toBeGreaterThanOrEqual(50);
  expect(taken).toBeLessThanOrEqual(66);
});
