import { closeSync, constants, existsSync, openSync, utimesSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { HOLDER_BYTE, HOST_BYTE } from '../../../src/runtime/coordination/local/claim-file.js';
import { LockFolder } from '../../../src/runtime/coordination/local/lock-folder.js';
import { WriterFile } from '../../../src/runtime/coordination/local/writer-file.js';
import { addon } from '../../../src/runtime/hosts/addon.js';
import { makeWriter } from '../../../src/runtime/processes/writer.js';
import { CommandedProgram } from '../../support/commanded.js';
import { type Folder, makeFolder } from '../../support/softhsm.js';

let folder: Folder;
let path: string;
let locks: LockFolder;
let own: WriterFile;
const writers: WriterFile[] = [];
const descriptors: number[] = [];

beforeEach(() => {
  folder = makeFolder('writers');
  path = join(folder.path, 'locks');
  locks = LockFolder.open(path, 'group');
  own = open(locks);
});
afterEach(() => {
  for (const writer of writers.splice(0)) writer.close();
  for (const descriptor of descriptors.splice(0)) closeSync(descriptor);
  folder.remove();
});

/** Opens a writer, which the end of the test closes. */
function open(from: LockFolder): WriterFile {
  const writer = new WriterFile(from);
  writers.push(writer);
  return writer;
}

function close(writer: WriterFile): void {
  writers.splice(writers.indexOf(writer), 1);
  writer.close();
}

/** Locks a byte of a file; the returned function lets go. */
function lock(file: string, byte: number): () => void {
  const descriptor = openSync(file, constants.O_RDWR);
  descriptors.push(descriptor);
  expect(addon.lockByte(descriptor, byte, false)).toBe(true);
  return () => {
    descriptors.splice(descriptors.indexOf(descriptor), 1);
    closeSync(descriptor);
  };
}

/** Returns what the test's own writer knows of another one. */
const knownOf = (writer: string): object => ({ isGone: own.isGone(writer), isEnding: own.isEnding(writer) });

describe('a writer', () => {
  test('is there while its group is open, and gone afterwards, without a file', () => {
    expect(knownOf(own.writer)).toEqual({ isGone: false, isEnding: false });
    const other = open(locks);
    expect(knownOf(other.writer)).toEqual({ isGone: false, isEnding: false });
    close(other);
    expect(knownOf(other.writer)).toEqual({ isGone: true, isEnding: false });
    expect(existsSync(other.path)).toBe(false);
  });

  test('[Rule 21] is ending while a host of it lives, and gone with the host', () => {
    const other = open(locks);
    const letGo = lock(other.path, HOST_BYTE);
    expect(knownOf(other.writer)).toEqual({ isGone: false, isEnding: false });
    close(other);
    expect(knownOf(other.writer)).toEqual({ isGone: false, isEnding: true });
    letGo();
    expect(knownOf(other.writer)).toEqual({ isGone: true, isEnding: false });
  });

  test('[Rule 21] that was killed is gone', async () => {
    const program = new CommandedProgram<{ writer: string; writerPath: string }>('coordinator', ['group', path]);
    try {
      const { writer, writerPath } = await program.ready;
      expect(knownOf(writer)).toEqual({ isGone: false, isEnding: false });
      const letGo = lock(writerPath, HOST_BYTE);
      await program.kill();
      expect(knownOf(writer)).toEqual({ isGone: false, isEnding: true });
      letGo();
      expect(knownOf(writer)).toEqual({ isGone: true, isEnding: false });
    } finally {
      await program.kill();
    }
  });

  test('is told by its lock and not by its process, which may run in another container', () => {
    const other = open(locks);
    const [boot, , , ...rest] = other.writer.split(':');
    // Names a process that does not exist.
    const far = [boot, '1', '999999999', ...rest].join(':');
    expect(own.isGone(far)).toBe(false);
    close(other);
    expect(own.isGone(far)).toBe(true);
  });

  test('of another lock folder, or of a version without lock folders, is told by its process', () => {
    const elsewhere = open(LockFolder.open(join(folder.path, 'elsewhere'), 'group'));
    expect(knownOf(elsewhere.writer)).toEqual({ isGone: false, isEnding: false });
    expect([own.isOfFolder(elsewhere.writer), own.isRival(elsewhere.writer)]).toEqual([false, true]);
    expect(knownOf(makeWriter())).toEqual({ isGone: false, isEnding: false });
    const [boot, namespace, , ...rest] = elsewhere.writer.split(':');
    expect(own.isGone([boot, namespace, '999999999', ...rest].join(':'))).toBe(true);
    expect(own.isGone([boot, '1', '999999999', ...rest].join(':'))).toBeUndefined();
  });

  test('is no rival if it uses the same folder, is of a former version, or has ended', () => {
    const elsewhere = open(LockFolder.open(join(folder.path, 'elsewhere'), 'group'));
    const [boot, namespace, , ...rest] = elsewhere.writer.split(':');
    const ended = [boot, namespace, '999999999', ...rest].join(':');
    expect([open(locks).writer, makeWriter(), ended].map((writer) => own.isRival(writer))).toEqual([
      false,
      false,
      false,
    ]);
  });

  test.each(['../held', '../../held', '/held', '.', '', 'HELD', 'held', 'a'.repeat(65)])(
    'of the invalid name %p names no file outside the folder, and is gone',
    (name) => {
      // Makes files that count as held if a name leads to them.
      for (const file of [join(path, 'held'), join(folder.path, 'held'), join(path, 'writers', 'held')]) {
        writeFileSync(file, '');
        lock(file, HOLDER_BYTE);
      }
      const writer = own.writer.split(':').with(4, name).join(':');
      expect(knownOf(writer)).toEqual({ isGone: true, isEnding: false });
    },
  );
});

describe('files of writers', () => {
  test('that were killed long ago are removed by the next writer; held and new ones stay', () => {
    const files = Object.fromEntries(
      ['old', 'new', 'held', 'worked'].map((name) => [name, join(path, 'writers', name)] as const),
    );
    for (const [name, file] of Object.entries(files)) {
      writeFileSync(file, '');
      if (name !== 'new') utimesSync(file, new Date(0), new Date(0));
    }
    lock(files.held ?? '', HOLDER_BYTE);
    lock(files.worked ?? '', HOST_BYTE);
    open(locks);
    expect(Object.keys(files).filter((name) => existsSync(files[name] ?? ''))).toEqual(['new', 'held', 'worked']);
    expect(existsSync(own.path)).toBe(true);
  });

  test('have the random part of the name, so that no two writers share one', () => {
    expect(basename(own.path)).toBe(own.writer.split(':')[4]);
    expect(open(locks).path).not.toBe(own.path);
  });
});
