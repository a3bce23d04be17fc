import { type BigIntStats, closeSync, constants, fstatSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { resolve } from 'node:path';
import type { LogConfig } from '../../core/configuration/configuration.js';
import { FileLock, isSameFile, statOf } from '../processes/file-lock.js';

// Opens without waiting (O_NONBLOCK): a pipe without a reader would stop the application.
const FLAGS = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK | constants.O_NOCTTY;
/** Paths of the system's own links to open files. */
const ownLinks = /^\/dev\/(?:stdout|stderr|fd\/\d+)$/u;

interface OpenFile {
  readonly descriptor: number;
  readonly stat: BigIntStats;
  /** True if the disk was full and cut the last line short. */
  isTorn: boolean;
}

/**
 * File that several processes append lines to at once. A full file is moved to FILE.1, the former FILE.1 to FILE.2, up
 * to the configured number of old files.
 */
export class LogFile {
  readonly #path: string;
  readonly #maxSize: number;
  readonly #keep: number;
  readonly #notRotated: (error: unknown) => void;
  #open: OpenFile | undefined;

  /** Calls `notRotated` when a full file cannot be moved; lines are still appended to that file. */
  constructor({ file, maxSize, keep }: LogConfig, notRotated: (error: unknown) => void) {
    // Resolves the path now: the application may change its working directory later.
    this.#path = resolve(file);
    this.#maxSize = maxSize;
    this.#keep = keep;
    this.#notRotated = notRotated;
  }

  /** Appends a line, which includes its line end. Throws the file system's error if the line was not written. */
  append(line: string): void {
    const length = Buffer.byteLength(line);
    const found = statOf(this.#path);
    // Compares with the path: another process may have moved the open file to FILE.1.
    if (!isSameFile(found, this.#open?.stat)) this.close();
    if (this.#isFull(found, length)) this.#rotate(length);
    this.#open ??= this.#reopen();
    const bytes = Buffer.from(this.#open.isTorn ? `\n${line}` : line);
    // Writes each line with one call: O_APPEND keeps other processes' lines out of it.
    const written = writeSync(this.#open.descriptor, bytes);
    this.#open.isTorn = written < bytes.length;
    if (this.#open.isTorn) throw Object.assign(new Error('a line was cut short'), { code: 'ENOSPC' });
  }

  close(): void {
    const open = this.#open;
    this.#open = undefined;
    if (open !== undefined) closeSync(open.descriptor);
  }

  #reopen(): OpenFile {
    // Follows no link: whoever can make one would choose a file that this process writes to.
    const links = ownLinks.test(this.#path) ? 0 : constants.O_NOFOLLOW;
    const descriptor = openSync(this.#path, FLAGS | links, 0o600);
    return { descriptor, stat: fstatSync(descriptor, { bigint: true }), isTorn: false };
  }

  /**
   * Tells whether a line would exceed the maximum size. An empty file takes any line; a terminal or pipe is never full.
   */
  #isFull(stat: BigIntStats | undefined, length: number): boolean {
    return stat?.isFile() === true && stat.size > 0n && Number(stat.size) + length > this.#maxSize;
  }

  #rotate(length: number): void {
    try {
      const lock = FileLock.take(`${this.#path}.lock`);
      // While another process rotates, this line goes to the full file instead of waiting.
      if (lock === undefined) return;
      try {
        // Checks again: another process may have rotated before this one got the lock.
        if (this.#isFull(statOf(this.#path), length)) this.#shift(lock);
      } finally {
        lock.release();
        this.close();
      }
    } catch (error) {
      this.#notRotated(error);
    }
  }

  #shift(lock: FileLock): void {
    if (this.#keep === 0) {
      rmSync(this.#path, { force: true });
      return;
    }
    for (let number = this.#keep; number >= 1; number -= 1) {
      // If another process took the lock away, it has rotated: a further step would overwrite a file.
      if (!lock.isHeld) return;
      move(number === 1 ? this.#path : `${this.#path}.${number - 1}`, `${this.#path}.${number}`);
    }
  }
}

function move(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    // Ignores ENOENT: fewer old files exist than may be kept.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
