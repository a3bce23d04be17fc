import { execFile, execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { PinReference } from '../../core/configuration/configuration.js';
import { InputError } from '../../spec/input.js';
import { addon, type NativeSecret } from '../hosts/addon.js';
import { environmentFor } from '../hosts/environment.js';

/** Time limit of a PIN command (ms). */
const COMMAND_TIMEOUT = 30_000;
/** Longest PIN (bytes). */
const LONGEST_PIN = 255;

/** Error for a PIN that cannot be read. The message never contains the PIN or a part of it. */
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
  const [program = '', ...args] = argumentsOf(command);
  try {
    return execFileSync(program, args, {
      env: environmentFor({}, []),
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: COMMAND_TIMEOUT,
      maxBuffer: 64 * 1024,
    });
  } catch (error) {
    throw failedCommand(program, error);
  }
}

function failedCommand(program: string, error: unknown): PinError {
  const { code, status } = error as { code?: string | number; status?: number };
  const why = typeof code === 'string' ? code : `exit code ${code ?? status ?? 'unknown'}`;
  return new PinError(`pin.command: ${program} failed (${why})`);
}

/** Reads a PIN's bytes; the event loop goes on while a program runs. */
async function fetchBytes(reference: PinReference): Promise<Buffer> {
  if (reference.command === undefined) return readBytes(reference);
  const [program = '', ...args] = argumentsOf(reference.command);
  return await new Promise((resolve, reject) => {
    const env = environmentFor({}, []);
    const options = { env, encoding: 'buffer', timeout: COMMAND_TIMEOUT, maxBuffer: 64 * 1024 } as const;
    execFile(program, args, options, (error, stdout) => {
      if (error === null) resolve(stdout);
      else reject(failedCommand(program, error));
    }).stdin?.end();
  });
}

function argumentsOf(command: PinReference['command']): readonly string[] {
  return typeof command === 'string' ? ['/bin/sh', '-c', command] : (command ?? []);
}

/** Takes the first line, without its end. */
function lineOf(bytes: Buffer): Buffer {
  const lineEnd = bytes.findIndex((byte) => byte === 0x0a || byte === 0x0d);
  const pin = lineEnd < 0 ? bytes : bytes.subarray(0, lineEnd);
  if (pin.length === 0) throw new PinError('pin: the PIN is empty');
  if (pin.length > LONGEST_PIN) throw new PinError(`pin: expected at most ${LONGEST_PIN} bytes`);
  return pin;
}

function guard(bytes: Buffer): NativeSecret {
  try {
    return new addon.Secret(lineOf(bytes));
  } finally {
    bytes.fill(0);
  }
}

/** Reads a PIN, without its line end, into guarded memory, and wipes the buffer it was read into. */
export function readPin(reference: PinReference): NativeSecret {
  return guard(readBytes(reference));
}

/** Reads a PIN into guarded memory; the event loop goes on while a program runs. */
export async function fetchPin(reference: PinReference): Promise<NativeSecret> {
  return guard(await fetchBytes(reference));
}

/** Reads a PIN into a plain buffer, for writing it to a file; the caller wipes the buffer. */
export async function fetchPinBytes(reference: PinReference): Promise<Buffer> {
  const bytes = await fetchBytes(reference);
  try {
    return Buffer.from(lineOf(bytes));
  } finally {
    bytes.fill(0);
  }
}

/** Copies a PIN that the application passed into guarded memory, and wipes the intermediate copy. */
export function guardPin(field: string, pin: string | Uint8Array): NativeSecret {
  const bytes = Buffer.from(pin as Uint8Array);
  try {
    if (bytes.length === 0 || bytes.length > LONGEST_PIN)
      throw new InputError(field, `a PIN of 1 to ${LONGEST_PIN} bytes`, pin);
    return new addon.Secret(bytes);
  } finally {
    bytes.fill(0);
  }
}
