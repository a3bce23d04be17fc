import { describe, expect, test } from '@jest/globals';
import { LoginGate } from '../../../src/core/group/login-gate.js';

describe('[Rule 6] the login gate', () => {
  test('lets one member try at a time until the PIN is proven, then all', () => {
    const gate = new LoginGate();
    expect([gate.enter(), gate.enter()]).toEqual([true, false]);
    gate.leave('unknown', 0, 'a');
    expect(gate.enter()).toBe(true);
    gate.leave('right', 0, 'b');
    expect([gate.enter(), gate.enter()]).toEqual([true, true]);
    gate.leave('wrong', 0xa0, 'c');
    expect(gate.enter()).toBe(true);
  });

  test('stops all logins after a PIN that was never right is refused', () => {
    const gate = new LoginGate();
    gate.enter();
    gate.leave('wrong', 0xa0, 'a');
    expect(gate.enter()).toBe(false);
    expect(gate.refusal).toEqual({ code: 0xa0, member: 'a' });
  });
});
