import { describe, expect, test } from '@jest/globals';
import { PROFILES } from './profiles.js';
import { Run } from './run.js';

/** Runs one life; throws for a profile that there is not. */
function findingsOf(profile: string, seed: number): readonly string[] {
  const found = PROFILES[profile];
  if (found === undefined) throw new Error(`no profile ${profile}`);
  return new Run(seed, found).run().findings;
}

describe('a simulated fleet', () => {
  test.each(['quiet', 'writers', 'hosts', 'kills', 'errors'])('%s: a seed brings no findings', (profile) => {
    expect(findingsOf(profile, 1)).toEqual([]);
  });

  test('the same seed brings the same life', () => {
    const logs = [1, 2].map(() => new Run(7, PROFILES.kills ?? (PROFILES.quiet as never)).run().log);
    expect(logs[1]).toEqual(logs[0]);
    expect(logs[0]?.length).toBeGreaterThan(40);
  });
});

describe('[Rule 23] members that were away in turn', () => {
  // Notes that a member lacks changes stood for ever if another member was away while it caught up.
  test.each([21, 22, 47])('are in step again once all serve (outages, seed %d)', (seed) => {
    expect(findingsOf('outages', seed)).toEqual([]);
  });
});

describe('[Rule 20] what callers were told of', () => {
  // Another process undid the creation: it had read its intent before the writer completed it, and ended.
  test('a confirmed creation stands, although its writer ends at once', () => {
    expect(findingsOf('everything', 41)).toEqual([]);
  });

  // The only member was lost while it took the new values, then the process that was to take them back.
  test('a change of attributes that another process may finish is told as unknown', () => {
    expect(findingsOf('kills', 58)).toEqual([]);
  });
});
