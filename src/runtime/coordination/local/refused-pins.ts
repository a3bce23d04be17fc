import { randomBytes, scryptSync, timingSafeEqual } from 'node:crypto';
import { closeSync, constants, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { NativeSecret } from '../../hosts/addon.js';
import { fileNameOf, type LockFolder } from './lock-folder.js';

/** Length of salts and hashes (bytes). */
const SIZE = 32;
/** Cost of a hash: about 40 ms, so that a short PIN cannot be found soon by trying all. */
const COST = 2 ** 14;
/** Maximum number of refused PINs that are remembered of a token. */
const MOST_PINS = 4;

/** Number of refusals after which a PIN is not tried again: a token in files may refuse a right one for a moment. */
const ENOUGH = 2;

/** Refused PIN: its hash, the CKR code of the last refusal, and the number of refusals. */
interface RefusedPin {
  readonly salt: string;
  readonly hash: string;
  readonly code: number;
  readonly count: number;
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

  /** Returns the CKR code with which the token has refused the PIN twice; undefined if it has not. */
  codeOf(serial: string, pin: NativeSecret): number | undefined {
    const known = this.#find(serial, pin);
    return known !== undefined && known.count >= ENOUGH ? known.code : undefined;
  }

  /** Remembers a refusal; does nothing if the folder cannot be written. */
  add(serial: string, pin: NativeSecret, code: number): void {
    const known = this.#find(serial, pin);
    const salt = known?.salt ?? randomBytes(SIZE).toString('hex');
    const hash = known?.hash ?? hashOf(pin, salt).toString('hex');
    const own = { salt, hash, code, count: (known?.count ?? 0) + 1 };
    const others = this.#list(serial).filter((each) => each.salt !== salt);
    const text = JSON.stringify([own, ...others].slice(0, MOST_PINS));
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

  /** Forgets the refused PINs of a token. */
  forget(serial: string): void {
    try {
      rmSync(this.#pathOf(serial), { force: true });
    } catch {
      // Another user of the Unix group owns the folder.
    }
  }

  #find(serial: string, pin: NativeSecret): RefusedPin | undefined {
    return this.#list(serial).find(({ salt, hash }) => timingSafeEqual(hashOf(pin, salt), Buffer.from(hash, 'hex')));
  }

  #pathOf(serial: string): string {
    return join(this.#locks.path, 'refused', fileNameOf(serial));
  }

  #list(serial: string): readonly RefusedPin[] {
    try {
      // Follows no link, and does not wait at a pipe.
      const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
      const descriptor = openSync(this.#pathOf(serial), flags);
      try {
        const read = JSON.parse(readFileSync(descriptor, 'utf8')) as unknown;
        return Array.isArray(read) ? read.filter(isRefusedPin) : [];
      } finally {
        closeSync(descriptor);
      }
    } catch {
      return [];
    }
  }
}

function isRefusedPin(value: unknown): value is RefusedPin {
  if (typeof value !== 'object' || value === null) return false;
  const { salt, hash, code, count } = value as Partial<Record<keyof RefusedPin, unknown>>;
  const isHash = (text: unknown): boolean => typeof text === 'string' && /^[0-9a-f]{64}$/u.test(text);
  return isHash(salt) && isHash(hash) && typeof code === 'number' && typeof count === 'number';
}

function hashOf(pin: NativeSecret, salt: string): Buffer {
  const bytes = pin.copy();
  try {
    return scryptSync(bytes, Buffer.from(salt, 'hex'), SIZE, { N: COST });
  } finally {
    bytes.fill(0);
  }
}
