import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { PinReference } from '../core/configuration.js';
import { addon, type NativeSecret } from './addon.js';

const COMMAND_TIMEOUT = 30_000;
const LONGEST_PIN = 255;

/** The PIN could not be had; the message never holds any of it. */
export class PinError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'PinError';
  }
}

function readBytes({ env, file, command }: PinReference): Buffer {
  if (env !== undefined) {
    const value = process.env[env];
    if (value === undefined) throw new PinError(`pin.env: the environment variable ${env} is not set`);
    return Buffer.from(value, 'utf8');
  }
  if (file !== undefined) {
    try {
      return readFileSync(file);
    } catch (error) {
      throw new PinError(`pin.file: ${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`);
    }
  }
  const [program = '', ...args] = typeof command === 'string' ? ['/bin/sh', '-c', command] : (command ?? []);
  try {
    return execFileSync(program, args, {
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: COMMAND_TIMEOUT,
      maxBuffer: 64 * 1024,
    });
  } catch (error) {
    const { code, status } = error as { code?: string; status?: number };
    throw new PinError(`pin.command: ${program} failed (${code ?? `exit code ${status ?? 'unknown'}`})`);
  }
}

/** The PIN in guarded memory; what it was read into is wiped. Its line end is no part of it. */
export function readPin(reference: PinReference): NativeSecret {
  const bytes = readBytes(reference);
  try {
    const lineEnd = bytes.findIndex((byte) => byte === 0x0a || byte === 0x0d);
    const pin = lineEnd < 0 ? bytes : bytes.subarray(0, lineEnd);
    if (pin.length === 0) throw new PinError('pin: the PIN is empty');
    if (pin.length > LONGEST_PIN) throw new PinError(`pin: expected at most ${LONGEST_PIN} bytes`);
    return new addon.Secret(pin);
  } finally {
    bytes.fill(0);
  }
}
