import { expect, test } from '@jest/globals';
import type { Running } from '../../../src/core/base/task.js';
import { joinOrStart, sleepUntil } from '../../../src/core/base/waiting.js';
import { Scheduler } from '../../../src/runtime/scheduling/scheduler.js';

test('a run that goes on is joined, and one that ended before its start returned is followed by another', () => {
  const scheduler = new Scheduler(() => 0);
  const begun: Running<void>[] = [];
  const begin = (until: number) => (): Running<void> => {
    const running = scheduler.start(sleepUntil(until));
    begun.push(running);
    return running;
  };
  const lasting = joinOrStart(undefined, begin(10));
  expect(joinOrStart(lasting, begin(10))).toBe(lasting);
  const brief = joinOrStart(undefined, () => scheduler.start((function* () {})()));
  expect(brief.completed).toBe(true);
  expect(joinOrStart(brief, begin(10))).not.toBe(brief);
  expect(begun).toHaveLength(2);
});
