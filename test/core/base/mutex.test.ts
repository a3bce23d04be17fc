import { expect, test } from '@jest/globals';
import { Mutex } from '../../../src/core/base/mutex.js';
import type { Task } from '../../../src/core/base/task.js';
import { Scheduler } from '../../../src/runtime/scheduling/scheduler.js';

test('a task that waits for the mutex longer than its limit is refused, and the others keep their order', () => {
  let now = 0;
  const scheduler = new Scheduler(() => now);
  const turns = new Mutex();
  const order: string[] = [];
  const working = function* (name: string, until: number): Task<void> {
    while (now < until) yield { signals: [], until };
    order.push(name);
  };
  scheduler.start(turns.runExclusive(working('long', 1000)));
  const leaving = scheduler.start(turns.runExclusive(working('leaves', 0), 100));
  const last = scheduler.start(turns.runExclusive(working('last', 0)));
  for (now of [100, 500, 1000]) scheduler.step();
  expect(leaving.ended).toMatchObject({ ok: false, error: { code: 0x1b } });
  expect([order, last.ended]).toEqual([['long', 'last'], { ok: true, value: undefined }]);
});
