import { describe, expect, test } from '@jest/globals';
import { LoginGate } from '../../../src/core/group/login-gate.js';

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
