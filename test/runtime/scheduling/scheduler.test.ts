import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { FOREVER, Signal, type Task } from '../../../src/core/base/task.js';
import { type Due, DueHeap } from '../../../src/runtime/scheduling/heap.js';
import { Scheduler } from '../../../src/runtime/scheduling/scheduler.js';

describe('the heap of what is due', () => {
  test('gives the earliest first after any additions and removals', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 50 }), fc.boolean())), (entries) => {
        const heap = new DueHeap<Due>();
        const items = entries.map(([dueAt, stays]) => ({ dueAt, slot: -1, stays }));
        for (const item of items) heap.add(item);
        for (const item of items) if (!item.stays) heap.remove(item);
        const expected = items
          .filter(({ stays }) => stays)
          .map(({ dueAt }) => dueAt)
          .sort((a, b) => a - b);
        const given: number[] = [];
        for (let first = heap.first; first !== undefined; first = heap.first) {
          given.push(first.dueAt);
          heap.remove(first);
        }
        expect(given).toEqual(expected);
      }),
    );
  });
});

describe('[Rule 1] the scheduler', () => {
  const make = (): { clock: { now: number }; scheduler: Scheduler } => {
    const clock = { now: 0 };
    return { clock, scheduler: new Scheduler(() => clock.now) };
  };

  test('runs a task to its first wait, continues it at a signal or at its time, and ends it with a value', () => {
    const { clock, scheduler } = make();
    const signal = new Signal();
    const seen: string[] = [];
    const running = scheduler.start(
      (function* (): Task<string> {
        seen.push('started');
        yield { signals: [signal], until: FOREVER };
        seen.push('signalled');
        yield { signals: [], until: 10 };
        return 'done';
      })(),
    );
    expect(seen).toEqual(['started']);
    expect(scheduler.dueAt).toBe(FOREVER);
    signal.fire();
    scheduler.step();
    expect(seen).toEqual(['started', 'signalled']);
    expect(scheduler.dueAt).toBe(10);
    clock.now = 9;
    scheduler.step();
    expect(running.ended).toBeUndefined();
    clock.now = 10;
    scheduler.step();
    expect(running.ended).toEqual({ ok: true, value: 'done' });
  });

  test('does not wait for a settled signal or a time that has passed', () => {
    const { scheduler } = make();
    const signal = new Signal();
    signal.complete();
    const running = scheduler.start(
      (function* (): Task<number> {
        yield { signals: [signal], until: FOREVER };
        yield { signals: [], until: 0 };
        return 1;
      })(),
    );
    expect(running.ended).toEqual({ ok: true, value: 1 });
  });

  test('runs the finally blocks of a task that is ended from outside', () => {
    const { scheduler } = make();
    let released = false;
    const running = scheduler.start(
      (function* (): Task<void> {
        try {
          yield { signals: [], until: 100 };
        } finally {
          released = true;
        }
      })(),
    );
    const reason = new Error('enough');
    running.cancel(reason);
    expect(released).toBe(true);
    expect(running.ended).toEqual({ ok: false, error: reason });
    expect(scheduler.dueAt).toBe(FOREVER);
  });

  test('ends a task that throws with its error, and continues the others', () => {
    const { scheduler } = make();
    const failing = scheduler.start(
      (function* (): Task<void> {
        yield { signals: [], until: 0 };
        throw new Error('broken');
      })(),
    );
    expect(failing.ended).toMatchObject({ ok: false, error: { message: 'broken' } });
    expect(failing.completed).toBe(true);
  });

  test('rings an alarm once, at the earliest of its times', () => {
    const { clock, scheduler } = make();
    const alarm = scheduler.alarm();
    let rung = 0;
    alarm.add({ wake: () => (rung += 1) });
    alarm.ringAt(20);
    alarm.ringAt(10);
    alarm.ringAt(30);
    clock.now = 15;
    scheduler.step();
    expect(rung).toBe(1);
    clock.now = 50;
    scheduler.step();
    expect(rung).toBe(1);
    alarm.ringAt(60);
    alarm.stop();
    clock.now = 70;
    scheduler.step();
    expect(rung).toBe(1);
  });
});
