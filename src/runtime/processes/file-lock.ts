import { randomBytes } from 'node:crypto';
import { type BigIntStats, closeSync, constants, fstatSync, openSync, renameSync, rmSync, statSync } from 'node:fs';

/** What is done under such a lock takes a millisecond: whoever has held it for so long (ms) has died over it. */
const OLD_AFTER = 10_000;

/** What is at a path; undefined when nothing is. Inode numbers can be longer than a number is exact. */
export function statOf(path: string): BigIntStats | undefined {
  return statSync(path, { bigint: true, throwIfNoEntry: false });
}

export function isSameFile(a: BigIntStats | undefined, b: BigIntStats | undefined): boolean {
  return a !== undefined && b !== undefined && a.ino === b.ino && a.dev === b.dev;
}

/** A time in the future is no time that a holder could have written: the clock was set back. */
function isOld(stat: BigIntStats | undefined): boolean {
  return stat !== undefined && Math.abs(Date.now() - Number(stat.mtimeMs)) > OLD_AFTER;
}

/** A file that only one can make: whoever has made it may, until it is released. */
export class FileLock {
  readonly #path: string;
  // Kept open, so that the inode is not given to the lock of another.
  readonly #descriptor: number;
  readonly #stat: BigIntStats;

  private constructor(path: string) {
    this.#path = path;
    this.#descriptor = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    this.#stat = fstatSync(this.#descriptor, { bigint: true });
  }

  /** Takes the lock, or removes one that was left behind; undefined when another has it. Nothing is waited for. */
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

  /** False when it was taken away, because this process was stopped for long. */
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

/** Moved first, which only one can do: else two that found it old would remove the lock that one of them made since. */
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
