import { utimesSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { LockFolder } from '../../../src/runtime/coordination/local/lock-folder.js';
import { MissedNotes } from '../../../src/runtime/coordination/local/missed-notes.js';
import { type Folder, makeFolder } from '../../support/softhsm.js';

const SERIAL = 'a/b';

let folder: Folder;
let locks: LockFolder;
beforeEach(() => {
  folder = makeFolder('missed-notes');
  locks = LockFolder.open(join(folder.path, 'locks'), 'group');
});
afterEach(() => folder.remove());

test('notes of one process are seen by others, one a process', () => {
  const [one, other] = [new MissedNotes(locks), new MissedNotes(locks)];
  expect(other.list(SERIAL)).toEqual([]);
  one.add(SERIAL);
  const first = other.list(SERIAL);
  one.add(SERIAL);
  other.add(SERIAL);
  expect(other.list(SERIAL)).toHaveLength(2);
  expect(other.list('another')).toEqual([]);
  expect(other.list(SERIAL)).not.toContain(first[0]);
});

test('a note that was made since the others were listed stays when these are removed', () => {
  const [one, other] = [new MissedNotes(locks), new MissedNotes(locks)];
  one.add(SERIAL);
  const listed = other.list(SERIAL);
  one.add(SERIAL);
  other.remove(SERIAL, listed);
  expect(other.list(SERIAL)).toHaveLength(1);
});

test('programs that have ended leave a bounded number of notes', () => {
  new MissedNotes(locks).add(SERIAL);
  const hourAgo = new Date(Date.now() - 3_600_000);
  for (const note of new MissedNotes(locks).list(SERIAL))
    utimesSync(join(locks.path, 'missed', encodeURIComponent(SERIAL), note), hourAgo, hourAgo);
  new MissedNotes(locks).add(SERIAL);
  expect(new MissedNotes(locks).list(SERIAL)).toHaveLength(1);
});
