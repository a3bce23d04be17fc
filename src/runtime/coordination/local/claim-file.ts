import { randomBytes } from 'node:crypto';
import { closeSync, constants, linkSync, openSync, readdirSync, readSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { addon } from '../../hosts/addon.js';
import type { LockFolder } from './lock-folder.js';

/** Index of the byte of a lock file that the application locks. */
export const HOLDER_BYTE = 0;
/** Index of the byte of a lock file that the application's hosts lock. */
export const HOST_BYTE = 1;
/** Time for which a claim lasts without a renewal (ms). */
export const LIFETIME = 6000;
/** Position of the time at which hosts that still work are passed over (bytes). The expiry is at 0. */
const WORK_LIMIT_AT = 8;
/** Position of the holder's process id (bytes). */
const HOLDER_AT = 16;
const HEADER_SIZE = 24;
const NS_PER_MS = 1e6;

const isCode = (error: unknown, code: string): boolean => (error as NodeJS.ErrnoException).code === code;

/** Header of a claim's file. */
interface Header {
  /** Expiry (ms of CLOCK_BOOTTIME). */
  readonly expires: number;
  /** Time until which hosts that still work are waited for (ms of CLOCK_BOOTTIME). */
  readonly workLimit: number;
  readonly pid: number;
}

function readHeader(descriptor: number): Header | undefined {
  const bytes = Buffer.alloc(HEADER_SIZE);
  if (readSync(descriptor, bytes, 0, HEADER_SIZE, 0) < HEADER_SIZE) return undefined;
  return {
    expires: Number(bytes.readBigUInt64LE(0)) / NS_PER_MS,
    workLimit: Number(bytes.readBigUInt64LE(WORK_LIMIT_AT)) / NS_PER_MS,
    pid: Number(bytes.readBigUInt64LE(HOLDER_AT)),
  };
}

function writeTimes(descriptor: number, expires: number, workLimit: number): void {
  const bytes = Buffer.alloc(HEADER_SIZE);
  bytes.writeBigUInt64LE(BigInt(Math.round(expires * NS_PER_MS)), 0);
  bytes.writeBigUInt64LE(BigInt(Math.round(workLimit * NS_PER_MS)), WORK_LIMIT_AT);
  bytes.writeBigUInt64LE(BigInt(process.pid), HOLDER_AT);
  writeSync(descriptor, bytes, 0, HEADER_SIZE, 0);
}

/**
 * Claims of one name: a folder with a file for each fence, of which the highest counts. The holder locks one byte of
 * its file, its hosts lock another one. The highest file stays after the claim, so that fences rise.
 */
export class ClaimFolder {
  readonly #path: string;

  constructor(
    readonly locks: LockFolder,
    name: string,
  ) {
    this.#path = join(locks.path, 'claims', name);
  }

  /**
   * Takes the claim if nobody holds it, or if its holder has let it expire; undefined otherwise. Hosts that write on
   * are waited for: `workLimit` ms longer than the claim lasts.
   */
  take(workLimit: number): ClaimFile | undefined {
    this.locks.makeFolder(this.#path);
    const fences = this.fences();
    if (!fences.every((fence) => this.#isOver(fence))) return undefined;
    // The first fence is the time, so that fences rise also after the folder was emptied.
    const fence = (fences.at(-1) ?? Date.now()) + 1;
    const path = join(this.#path, String(fence));
    const temporary = join(this.#path, `.${randomBytes(8).toString('hex')}`);
    const descriptor = this.locks.create(temporary);
    try {
      addon.lockByte(descriptor, HOLDER_BYTE, true);
      const expires = addon.bootTime() + LIFETIME;
      writeTimes(descriptor, expires, expires + workLimit);
      linkSync(temporary, path);
      // A process that was slow may have made a file that others have used and removed already, or may have missed a
      // file that was replaced while it listed. From here on others see this file, and take no claim beside it.
      if (this.#isOnlyOne(fence)) {
        for (const former of fences) rmSync(join(this.#path, String(former)), { force: true });
        return new ClaimFile(this, path, fence, descriptor, expires, workLimit);
      }
      rmSync(path, { force: true });
    } catch (error) {
      if (!isCode(error, 'EEXIST')) {
        closeSync(descriptor);
        throw error;
      }
    } finally {
      rmSync(temporary, { force: true });
    }
    closeSync(descriptor);
    return undefined;
  }

  /** Returns true if a fence is the highest, and all others are over. */
  #isOnlyOne(fence: number): boolean {
    return this.fences().every((other) => other === fence || (other < fence && this.#isOver(other)));
  }

  /** Describes the holder for people; undefined if nobody holds the claim. */
  holder(): string | undefined {
    const fence = this.fences().findLast((each) => !this.#isOver(each));
    if (fence === undefined) return undefined;
    const descriptor = this.#open(fence);
    if (descriptor === undefined) return 'a process of another user';
    try {
      return `process ${readHeader(descriptor)?.pid ?? 'unknown'}`;
    } finally {
      closeSync(descriptor);
    }
  }

  /** Lists the fences, in order. Two equal listings count: one alone may miss a file that replaces another. */
  fences(): readonly number[] {
    let last: string | undefined;
    for (;;) {
      const found = this.#list().filter((name) => /^\d{1,16}$/u.test(name));
      const text = found.sort().join();
      if (text === last) return found.map(Number).sort((a, b) => a - b);
      last = text;
    }
  }

  #list(): string[] {
    try {
      return readdirSync(this.#path);
    } catch (error) {
      if (isCode(error, 'ENOENT')) return [];
      throw error;
    }
  }

  #open(fence: number): number | undefined {
    try {
      return openSync(join(this.#path, String(fence)), constants.O_RDWR | constants.O_NOFOLLOW);
    } catch (error) {
      if (isCode(error, 'ENOENT') || isCode(error, 'EACCES')) return undefined;
      throw error;
    }
  }

  /** Returns true if a fence's holder and hosts have let go, or have had their time. */
  #isOver(fence: number): boolean {
    // The clock is read first: a renewal that is completed in time is then seen.
    const now = addon.bootTime();
    const descriptor = this.#open(fence);
    if (descriptor === undefined) return !this.#list().includes(String(fence));
    try {
      const header = readHeader(descriptor);
      const isHeld = addon.isByteLocked(descriptor, HOLDER_BYTE);
      const isWorkedUnder = addon.isByteLocked(descriptor, HOST_BYTE);
      if (!isHeld && !isWorkedUnder) return true;
      if (header === undefined || now < header.expires) return false;
      return !isWorkedUnder || now >= header.workLimit;
    } finally {
      closeSync(descriptor);
    }
  }
}

/** Claim that this process holds. */
export class ClaimFile {
  #isOpen = true;

  constructor(
    readonly folder: ClaimFolder,
    readonly path: string,
    readonly fence: number,
    readonly descriptor: number,
    /** Expiry (ms of CLOCK_BOOTTIME). */
    public expires: number,
    readonly workLimit: number,
  ) {}

  /** Renews the claim; returns false if the claim has expired: another process may have it by now. */
  renew(): boolean {
    const now = addon.bootTime();
    if (!this.#isOpen || now >= this.expires) return false;
    const next = now + LIFETIME;
    writeTimes(this.descriptor, next, next + this.workLimit);
    // A renewal counts only if it was completed in time: others read the expiry after they read the clock.
    if (addon.bootTime() >= this.expires || this.folder.fences().at(-1) !== this.fence) return false;
    this.expires = next;
    return true;
  }

  /** Lets go of the claim, and has it expire, so that hosts let go too as soon as they write no more. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    const now = addon.bootTime();
    if (now < this.expires) writeTimes(this.descriptor, now, now + this.workLimit);
    closeSync(this.descriptor);
  }
}
