import { describe, expect, test } from '@jest/globals';
import type { Task } from '../../../src/core/base/task.js';
import { sleepUntil } from '../../../src/core/base/waiting.js';
import { Pace } from '../../../src/core/group/pace.js';
import { twoTokens } from '../../support/signing.js';
import { World } from '../../support/world.js';

describe('[Rule 17] the pace of recovery', () => {
  /** Works for a time (ms), with an application's call during it or not; returns the time with its rest (ms). */
  const measure = (ms: number, calls: boolean): number => {
    const world = World.open(twoTokens());
    const pace = new Pace(world.group);
    const piece = function* (): Task<void> {
      yield* sleepUntil(world.now + ms);
      yield* pace.rest();
    };
    world.run(piece());
    // Counts a call as OpenGroup does.
    if (calls) world.group.requests += 1;
    const began = world.now;
    world.run(piece());
    return world.now - began;
  };

  test('takes no rest while no application calls', () => {
    expect(measure(10, false)).toBe(10);
  });

  test('rests eight times as long as it worked while applications call', () => {
    expect(measure(10, true)).toBe(90);
    expect(measure(1, true)).toBe(9);
  });

  test('rests 100 ms at most, so that recovery comes to its end', () => {
    expect(measure(50, true)).toBe(150);
  });
});
