import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { callerContexts } from '../../../src/runtime/scheduling/caller-contexts.js';

beforeAll(() => callerContexts.use());
afterAll(() => callerContexts.release());

test('a context continues across awaits, timers and callbacks', async () => {
  const flow = callerContexts.enter();
  flow.pending = 1;
  expect(callerContexts.current()).toBe(flow);
  await null;
  expect(callerContexts.current()).toBe(flow);
  await wait(1);
  expect(callerContexts.current()).toBe(flow);
  const inCallback = await new Promise((resolve) => setTimeout(() => resolve(callerContexts.current()), 1));
  expect(inCallback).toBe(flow);
  flow.pending = 0;
});

test("a context that begins in a function running by itself is not its caller's", async () => {
  const begun: unknown[] = [];
  const seen: unknown[] = [];
  const work = async (at: number): Promise<void> => {
    expect(callerContexts.current()).toBeUndefined();
    const flow = callerContexts.enter();
    flow.pending = 1;
    begun[at] = flow;
    await wait((at * 7) % 5);
    seen[at] = callerContexts.current();
    flow.pending = 0;
  };
  await Promise.all([0, 1, 2, 3, 4].map(work));
  expect(new Set(begun).size).toBe(5);
  expect(seen.map((flow, at) => flow === begun[at])).toEqual([true, true, true, true, true]);
});

test('calls without an await between them have one context', () => {
  const one = callerContexts.enter();
  one.pending = 1;
  expect(callerContexts.enter()).toBe(one);
  one.pending = 0;
  expect(callerContexts.enter()).not.toBe(one);
});

test("a context that a call begins itself is not its caller's", () => {
  callerContexts.call(() => {
    const flow = callerContexts.enter();
    flow.pending = 1;
    void Promise.resolve().then(() => undefined);
    expect(callerContexts.current()).toBe(flow);
    flow.pending = 0;
  });
});
