import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { addon } from '../../../src/runtime/hosts/addon.js';
import { HostProcess } from '../../../src/runtime/hosts/host.js';
import { bootOffset, monotonicNow } from '../../../src/runtime/scheduling/clock.js';
import { type Job, type JobReply, step } from '../../../src/spec/job.js';
import { until } from '../../support/waiting.js';

const HOUR = 3_600_000;
const job: Job = { steps: [step('C_GetSlotList', true)], sessionless: true };

afterEach(() => {
  jest.restoreAllMocks();
});

describe('the deadline of a job', () => {
  test('[Rule 2] is converted to the clock of the host, which begins no late job', async () => {
    const replies: JobReply[] = [];
    let hasEnded = false;
    const host = new HostProcess(
      { name: 'host', env: {}, module: '', sandbox: undefined },
      {
        replied: (reply) => replies.push(reply) > 0,
        ended: () => {
          hasEnded = true;
        },
      },
      { hidden: [], locks: '', printed: () => undefined, moved: () => undefined, forget: () => undefined },
    );
    try {
      const deadlines = [monotonicNow() + HOUR, monotonicNow(), Number.POSITIVE_INFINITY];
      for (const [id, deadline] of deadlines.entries()) expect(host.send(id + 1, deadline, job, 0)).toBe(true);
      await until(
        () => {
          host.drain();
          return replies.length === deadlines.length;
        },
        () => 'the host answers all jobs',
      );
      expect(replies.map(({ id, status }) => [id, status]).sort()).toEqual([
        [1, 'done'],
        [2, 'expired'],
        [3, 'done'],
      ]);
      expect(hasEnded).toBe(false);
    } finally {
      host.close();
    }
  });

  test('is never converted to a later time, and follows a machine that was suspended', async () => {
    const before = bootOffset();
    expect(monotonicNow() + bootOffset()).toBeLessThanOrEqual(addon.bootTime());
    const bootTime = addon.bootTime.bind(addon);
    jest.spyOn(addon, 'bootTime').mockImplementation(() => bootTime() + HOUR);
    await until(
      () => bootOffset() >= before + HOUR - 1000,
      () => 'the offset is sampled again',
    );
    expect(monotonicNow() + bootOffset()).toBeLessThanOrEqual(addon.bootTime());
  });
});
