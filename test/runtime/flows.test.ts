import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { flows } from '../../src/runtime/flows.js';

beforeAll(() => flows.use());
afterAll(() => flows.release());

test('a flow goes on over what it awaits, and through what it sets up', async () => {
  const flow = flows.enter();
  flow.pending = 1;
  expect(flows.current()).toBe(flow);
  await null;
  expect(flows.current()).toBe(flow);
  await wait(1);
  expect(flows.current()).toBe(flow);
  const inCallback = await new Promise((resolve) => setTimeout(() => resolve(flows.current()), 1));
  expect(inCallback).toBe(flow);
  flow.pending = 0;
});

test('a caller is not of the flow that was begun in a function which goes on by itself', async () => {
  const begun: unknown[] = [];
  const seen: unknown[] = [];
  const work = async (at: number): Promise<void> => {
    expect(flows.current()).toBeUndefined();
    const flow = flows.enter();
    flow.pending = 1;
    begun[at] = flow;
    await wait((at * 7) % 5);
    seen[at] = flows.current();
    flow.pending = 0;
  };
  await Promise.all([0, 1, 2, 3, 4].map(work));
  expect(new Set(begun).size).toBe(5);
  expect(seen.map((flow, at) => flow === begun[at])).toEqual([true, true, true, true, true]);
});

test('without an await in between it is one flow', () => {
  const one = flows.enter();
  one.pending = 1;
  expect(flows.enter()).toBe(one);
  one.pending = 0;
  expect(flows.enter()).not.toBe(one);
});

test('what a call sets up itself is none of its caller', () => {
  flows.call(() => {
    const flow = flows.enter();
    flow.pending = 1;
    void Promise.resolve().then(() => undefined);
    expect(flows.current()).toBe(flow);
    flow.pending = 0;
  });
});
