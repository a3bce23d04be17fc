import { randomBytes } from 'node:crypto';
import { type BigIntStats, closeSync, constants, fstatSync, openSync, renameSync, rmSync, statSync } from 'node:fs';

/** Age at which a lock counts as abandoned (ms): work under a lock takes a millisecond, so its holder has died. */
const OLD_AFTER = 10_000;

/** Reads the status of a path; undefined if no file is there. Bigint, since inode numbers may exceed exact numbers. */
export function statOf(path: string): BigIntStats | undefined {
  return statSync(path, { bigint: true, throwIfNoEntry: false });
}

export function isSameFile(a: BigIntStats | undefined, b: BigIntStats | undefined): boolean {
  return a !== undefined && b !== undefined && a.ino === b.ino && a.dev === b.dev;
}

/** Tells whether a lock is abandoned. A time far in the future counts too: the clock was set back. */
function isOld(stat: BigIntStats | undefined): boolean {
  return stat !== undefined && Math.abs(Date.now() - Number(stat.mtimeMs)) > OLD_AFTER;
}

/** Lock among processes by a file that only one process can create; the creator holds the lock until it releases it. */
export class FileLock {
  readonly #path: string;
  // Stays open, so that the inode is not reused for another process's lock.
  readonly #descriptor: number;
  readonly #stat: BigIntStats;

  private constructor(path: string) {
    this.#path = path;
    this.#descriptor = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    this.#stat = fstatSync(this.#descriptor, { bigint: true });
  }

  /**
   * Takes the lock without waiting, and removes an abandoned one first; undefined if another process holds the lock.
   */
  static take(path: string): FileLock | undefined {
    for (let tries = 0; tries < 2; tries += 1) {
      try {
        return new FileLock(path);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
        if (!isOld(statOf(path)) || !discard(path)) return undefined;
      }
    }
    return undefined;
  }

  /** True while this process holds the lock. A lock can be taken away while the process is stopped for long. */
  get isHeld(): boolean {
    return isSameFile(statOf(this.#path), this.#stat);
  }

  release(): void {
    try {
      if (this.isHeld) rmSync(this.#path, { force: true });
    } finally {
      closeSync(this.#descriptor);
    }
  }
}

/**
 * Removes an abandoned lock; returns false if the lock turned out to be new. Moves the file first, which only one
 * process can do: otherwise a second process could remove the lock that the first has just made.
 */
function discard(path: string): boolean {
  const aside = `${path}.${randomBytes(6).toString('hex')}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return true;
    throw error;
  }
  if (!isOld(statOf(aside))) {
    renameSync(aside, path);
    return false;
  }
  rmSync(aside, { force: true });
  return true;
}
