import { closeSync, constants, openSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { addon } from '../../hosts/addon.js';
import { isWriterGone as isProcessGone, makeWriter } from '../../processes/writer.js';
import { HOLDER_BYTE, HOST_BYTE } from './claim-file.js';
import type { LockFolder } from './lock-folder.js';

/** Age from which the file of a writer that has ended is removed (ms): a new file is not locked yet. */
const REMOVED_AFTER = 10_000;

/** Tells who locks a lock file; undefined if there is no such file. */
function holdersOf(path: string): { readonly process: boolean; readonly hosts: boolean } | undefined {
  let descriptor: number;
  try {
    descriptor = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    if (code === 'EACCES') return { process: true, hosts: true };
    throw error;
  }
  try {
    return {
      process: addon.isByteLocked(descriptor, HOLDER_BYTE),
      hosts: addon.isByteLocked(descriptor, HOST_BYTE),
    };
  } finally {
    closeSync(descriptor);
  }
}

/** Tells whether a lock file is held; undefined if there is no such file. */
function isHeld(path: string): boolean | undefined {
  const holders = holdersOf(path);
  return holders === undefined ? undefined : holders.process || holders.hosts;
}

/**
 * Lock file of a writer: this process locks it while the group is open, and its hosts while they live. So processes in
 * other PID namespaces can tell whether the writer is gone.
 */
export class WriterFile {
  /** Name of the writer in records: that of its process, then the id of the lock folder. */
  readonly writer: string;
  readonly path: string;
  readonly #locks: LockFolder;
  readonly #descriptor: number;

  constructor(locks: LockFolder) {
    this.#locks = locks;
    this.writer = `${makeWriter()}:${locks.id}`;
    this.path = pathOf(locks, this.writer);
    this.#removeOthers();
    this.#descriptor = locks.create(this.path);
    addon.lockByte(this.#descriptor, HOLDER_BYTE, true);
  }

  /** Tells whether a writer and its hosts have ended; undefined if that cannot be known. */
  isGone(writer: string): boolean | undefined {
    if (!this.isOfFolder(writer)) return isProcessGone(writer);
    return isHeld(pathOf(this.#locks, writer)) !== true;
  }

  /** Returns true if a writer has ended, and a host of it lives on. */
  isEnding(writer: string): boolean {
    const holders = this.isOfFolder(writer) ? holdersOf(pathOf(this.#locks, writer)) : undefined;
    return holders?.process === false && holders.hosts;
  }

  /** Returns true if a writer uses this lock folder. */
  isOfFolder(writer: string): boolean {
    return writer.split(':')[5] === this.#locks.id;
  }

  /** Returns true if a living process of this machine uses another lock folder. */
  isRival(writer: string): boolean {
    const folder = writer.split(':')[5];
    return folder !== undefined && folder !== this.#locks.id && isProcessGone(writer) === false;
  }

  /** True if no other writer of this lock folder lives, nor a host of one. */
  get isOnly(): boolean {
    const folder = join(this.#locks.path, 'writers');
    return readdirSync(folder).every((name) => join(folder, name) === this.path || isHeld(join(folder, name)) !== true);
  }

  close(): void {
    closeSync(this.#descriptor);
    // While a host lives, its lock tells others so.
    if (isHeld(this.path) === false) rmSync(this.path, { force: true });
  }

  #removeOthers(): void {
    const folder = join(this.#locks.path, 'writers');
    for (const name of readdirSync(folder)) {
      const path = join(folder, name);
      const age = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
      if (age > REMOVED_AFTER && isHeld(path) === false) rmSync(path, { force: true });
    }
  }
}

function pathOf(locks: LockFolder, writer: string): string {
  const name = writer.split(':')[4] ?? '';
  return join(locks.path, 'writers', /^[0-9a-f]{1,64}$/u.test(name) ? name : 'invalid');
}
