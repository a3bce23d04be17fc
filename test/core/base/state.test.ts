import { describe, expect, test } from '@jest/globals';
import { type MemberState, moved } from '../../../src/core/base/state.js';

describe('member states', () => {
  const state = (name: MemberState['name']): MemberState =>
    ({ name, since: 0, reason: '', code: undefined, retryAt: 0 }) as unknown as MemberState;

  test('[Rule 4] a move in the table is made, any other throws', () => {
    expect(moved(state('active'), state('suspect')).name).toBe('suspect');
    expect(() => moved(state('down'), state('active'))).toThrow('a member cannot go from down to active');
    expect(() => moved(state('suspect'), state('joining'))).toThrow();
  });
});
