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

// Each seed brought a finding before its mend; `npm run simulate:mutants` shows that such faults are found.
describe('[Rule 14] absence', () => {
  test.each([
    // A fresh host without a login showed nothing, and a recovery took that for "not there".
    ['kills', 24],
    // A member that missed the creation too lacked the key, while the holder of the key was away.
    ['everything', 153],
    ['everything', 231],
    ['everything', 371],
    // Two members that both lacked a key were compared, and the creation counted as done on both.
    ['everything', 2097],
    // The key was there under another name, which only the member's own key record told.
    ['hosts', 170],
    ['hosts', 336],
    ['hosts', 1233],
    ['everything', 827],
    // Key records that were read before an installation did not tell of it.
    ['errors', 9],
  ])('proves nothing (%s, seed %d)', (profile, seed) => {
    expect(findingsOf(profile, seed)).toEqual([]);
  });
});

describe('[Rule 20] an interrupted change', () => {
  test.each([
    // The process that failed with the call remembered another end than the tokens told.
    ['hosts', 107],
    ['hosts', 109],
    ['everything', 63],
    // The only member that knew of the success was away.
    ['everything', 481],
    // The key record had the new name, and the key the old one.
    ['hosts', 1307],
    ['everything', 396],
    // An intent that could not be removed was not looked at again.
    ['errors', 552],
    // The caller was told "failed" at the deadline, before the change was taken back.
    ['stops', 112],
    // Only one process remembered that other members have still to undo it.
    ['stops', 104],
    ['stops', 179],
  ])('ends alike everywhere (%s, seed %d)', (profile, seed) => {
    expect(findingsOf(profile, seed)).toEqual([]);
  });
});

describe('a recovery', () => {
  test.each([
    // Another process was bringing the same member up to date.
    ['kills', 357],
    // Values of a later call were overwritten with those of a missed one.
    ['hosts', 1316],
    ['everything', 90],
    // A call of the application lost the key record that it had just read.
    ['hosts', 255],
    // A key came back to a member that had missed both its creation and its destroy.
    ['everything', 8],
    // A key that another process destroyed meanwhile was restored.
    ['hosts', 340],
    // A rename counted as done on a member that did not have the key yet.
    ['everything', 193],
  ])('leaves to others what is theirs (%s, seed %d)', (profile, seed) => {
    expect(findingsOf(profile, seed)).toEqual([]);
  });

  test.each([
    // A read of the group record that ended at once was waited for again and again.
    ['outages', 238],
    // A change that had failed while its source was away was not tried again.
    ['outages', 124],
    // A call hung while the member joined.
    ['errors', 674],
    // A record of an object without a class ended every recovery that read it.
    ['everything', 83],
    // A process stood still until its claim on the journal was lost.
    ['stops', 2],
  ])('comes to its end (%s, seed %d)', (profile, seed) => {
    expect(findingsOf(profile, seed)).toEqual([]);
  });
});
