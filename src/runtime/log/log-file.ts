import { type BigIntStats, closeSync, constants, fstatSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { resolve } from 'node:path';
import type { LogConfig } from '../../core/configuration/configuration.js';
import { FileLock, isSameFile, statOf } from '../processes/file-lock.js';

// Not waiting: opening a pipe that nobody reads would stop the application.
const FLAGS = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK | constants.O_NOCTTY;

interface OpenFile {
  readonly descriptor: number;
  readonly stat: BigIntStats;
  /** Its last line was cut short, because the disk is full. */
  isTorn: boolean;
}

/**
 * A file that lines are appended to, by several processes at once, and that is moved out of the way when it is full:
 * to FILE.1, what was there to FILE.2, and so on.
 */
export class LogFile {
  readonly #path: string;
  readonly #maxSize: number;
  readonly #keep: number;
  readonly #notRotated: (error: unknown) => void;
  #open: OpenFile | undefined;

  /** `notRotated` is told when a full file cannot be moved; lines go on being appended to it. */
  constructor({ file, maxSize, keep }: LogConfig, notRotated: (error: unknown) => void) {
    // An application may change its folder later.
    this.#path = resolve(file);
    this.#maxSize = maxSize;
    this.#keep = keep;
    this.#notRotated = notRotated;
  }

  /** Appends a line, which has its line end; throws what the file system says, and then the line is not there. */
  append(line: string): void {
    const length = Buffer.byteLength(line);
    const found = statOf(this.#path);
    // Others rotate too: what is open may be FILE.1 by now.
    if (!isSameFile(found, this.#open?.stat)) this.close();
    if (this.#isFull(found, length)) this.#rotate(length);
    this.#open ??= this.#reopen();
    const bytes = Buffer.from(this.#open.isTorn ? `\n${line}` : line);
    // One write a line: with O_APPEND nobody else's can come in between.
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
    const descriptor = openSync(this.#path, FLAGS, 0o600);
    return { descriptor, stat: fstatSync(descriptor, { bigint: true }), isTorn: false };
  }

  /** An empty file takes any line; what is no file, a terminal or a pipe, is never full. */
  #isFull(stat: BigIntStats | undefined, length: number): boolean {
    return stat?.isFile() === true && stat.size > 0n && Number(stat.size) + length > this.#maxSize;
  }

  #rotate(length: number): void {
    try {
      const lock = FileLock.take(`${this.#path}.lock`);
      // Another is at it: this line still goes to the full file, rather than wait.
      if (lock === undefined) return;
      try {
        // It may have been done before the lock was had.
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
      // Whoever took the lock away has rotated: another step would move one file over another.
      if (!lock.isHeld) return;
      move(number === 1 ? this.#path : `${this.#path}.${number - 1}`, `${this.#path}.${number}`);
    }
  }
}

function move(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    // Not so many old files yet.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
