import { randomBytes, scryptSync, timingSafeEqual } from 'node:crypto';
import { closeSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { NativeSecret } from '../../hosts/addon.js';
import { fileNameOf, type LockFolder } from './lock-folder.js';

/** Length of salts and hashes (bytes). */
const SIZE = 32;
/** Cost of a hash: about 40 ms, so that a short PIN cannot be found soon by trying all. */
const COST = 2 ** 14;
/** Maximum number of refused PINs that are remembered of a token. */
const MOST_PINS = 4;

/** Refused PIN: its hash, and the CKR code of the refusal. */
interface RefusedPin {
  readonly salt: string;
  readonly hash: string;
  readonly code: number;
}

/**
 * PINs that tokens have refused, as hashes in the lock folder, one file a token. A program that starts again and again
 * would otherwise spend a try each time, until the token locks itself.
 */
export class RefusedPins {
  readonly #locks: LockFolder;

  constructor(locks: LockFolder) {
    this.#locks = locks;
  }

  /** Returns the CKR code with which the token has refused the PIN; undefined if that is not known. */
  codeOf(serial: string, pin: NativeSecret): number | undefined {
    return this.#list(serial).find(({ salt, hash }) =>
      timingSafeEqual(hashOf(pin, Buffer.from(salt, 'hex')), Buffer.from(hash, 'hex')),
    )?.code;
  }

  /** Remembers a refused PIN; does nothing if the folder cannot be written. */
  add(serial: string, pin: NativeSecret, code: number): void {
    if (this.codeOf(serial, pin) !== undefined) return;
    const salt = randomBytes(SIZE);
    const own = { salt: salt.toString('hex'), hash: hashOf(pin, salt).toString('hex'), code };
    const text = JSON.stringify([own, ...this.#list(serial)].slice(0, MOST_PINS));
    const path = this.#pathOf(serial);
    const next = `${path}.${randomBytes(8).toString('hex')}`;
    try {
      this.#locks.makeFolder(join(this.#locks.path, 'refused'));
      const descriptor = this.#locks.create(next);
      writeSync(descriptor, text);
      closeSync(descriptor);
      renameSync(next, path);
    } catch {
      rmSync(next, { force: true });
    }
  }

  /** Forgets the refused PINs of a token, or of all tokens. */
  forget(serial?: string): void {
    const path = serial === undefined ? join(this.#locks.path, 'refused') : this.#pathOf(serial);
    try {
      rmSync(path, { recursive: true, force: true });
    } catch {
      // Another user of the Unix group owns the folder.
    }
  }

  #pathOf(serial: string): string {
    return join(this.#locks.path, 'refused', fileNameOf(serial));
  }

  #list(serial: string): readonly RefusedPin[] {
    try {
      const read = JSON.parse(readFileSync(this.#pathOf(serial), 'utf8')) as unknown;
      return Array.isArray(read) ? read.filter(isRefusedPin) : [];
    } catch {
      return [];
    }
  }
}

function isRefusedPin(value: unknown): value is RefusedPin {
  if (typeof value !== 'object' || value === null) return false;
  const { salt, hash, code } = value as Partial<Record<keyof RefusedPin, unknown>>;
  const isHash = (text: unknown): boolean => typeof text === 'string' && text.length === SIZE * 2;
  return isHash(salt) && isHash(hash) && typeof code === 'number';
}

function hashOf(pin: NativeSecret, salt: Buffer): Buffer {
  const bytes = pin.copy();
  try {
    return scryptSync(bytes, salt, SIZE, { N: COST });
  } finally {
    bytes.fill(0);
  }
}
