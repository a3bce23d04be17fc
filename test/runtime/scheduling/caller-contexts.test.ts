import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { callerContexts } from '../../../src/runtime/scheduling/caller-contexts.js';

beforeAll(() => callerContexts.use());
afterAll(() => callerContexts.release());

test('a flow goes on over what it awaits, and through what it sets up', async () => {
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

test('a caller is not of the flow that was begun in a function which goes on by itself', async () => {
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

test('without an await in between it is one flow', () => {
  const one = callerContexts.enter();
  one.pending = 1;
  expect(callerContexts.enter()).toBe(one);
  one.pending = 0;
  expect(callerContexts.enter()).not.toBe(one);
});

test('what a call sets up itself is none of its caller', () => {
  callerContexts.call(() => {
    const flow = callerContexts.enter();
    flow.pending = 1;
    void Promise.resolve().then(() => undefined);
    expect(callerContexts.current()).toBe(flow);
    flow.pending = 0;
  });
});
