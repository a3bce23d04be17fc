import { expect, test } from '@jest/globals';
import { objectOf } from '../../../src/core/objects/note.js';
import { isGoneOn } from '../../../src/core/recovery/tombstone-spread.js';
import { key } from '../../support/sample-records.js';

const { handle } = key.note;
const { reference } = objectOf(key.note);
const tombstones = { live: new Map(), gone: new Map([[handle, { ...key, time: 10 }]]) };

// Rows: time of the key's record on another member, and whether the tombstone of the time 10 says that it was destroyed.
test.each([
  ['before the destroy', 9, true],
  ['after the destroy, as by a restore', 11, false],
])('[Rule 28] a tombstone concerns a key whose record is from %s: time %d, %s', (_when, time, isGone) => {
  expect(isGoneOn(tombstones, { handle, reference }, time)).toBe(isGone);
});

test('[Rule 28] a tombstone says nothing of another key, nor beside a record of the key', () => {
  expect(isGoneOn(tombstones, { handle, reference: new Map([['digest', Buffer.from('other')]]) }, 9)).toBe(false);
  expect(isGoneOn({ ...tombstones, live: new Map([[handle, key]]) }, { handle, reference }, 9)).toBe(false);
});
