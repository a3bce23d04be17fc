import { describe, expect, test } from '@jest/globals';
import { MemberRecovery } from '../../../src/core/group/member-recovery.js';

describe('changes that failed on a member', () => {
  test('are tried again, less and less often, and once for each time', () => {
    const recovery = new MemberRecovery();
    recovery.countFailure('call');
    const pauses: number[] = [];
    for (let now = 0; pauses.length < 9; now = recovery.retryAt) {
      recovery.scheduleRetry(now, 1);
      pauses.push(recovery.retryAt - now);
      expect(recovery.takeRetry(recovery.retryAt - 1)).toBe(false);
      const at = recovery.retryAt;
      expect([recovery.takeRetry(at), recovery.takeRetry(at)]).toEqual([true, false]);
      recovery.retryAt = at;
    }
    expect(pauses.slice(0, 3)).toEqual([10_000, 20_000, 40_000]);
    expect(pauses.at(-1)).toBe(600_000);
  });

  test('are not tried again once they are made', () => {
    const recovery = new MemberRecovery();
    recovery.countFailure('call');
    recovery.scheduleRetry(0, 1);
    recovery.forgetFailures('call');
    recovery.scheduleRetry(0, 1);
    expect(recovery.takeRetry(Number.MAX_SAFE_INTEGER)).toBe(false);
  });
});
