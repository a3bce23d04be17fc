import { execFile, execFileSync } from 'node:child_process';
import { constants, readFileSync, type Stats, statSync } from 'node:fs';
import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import type { PinReference } from '../../core/configuration/configuration.js';
import { environmentOfProgram } from '../hosts/environment.js';
import { dangerOf, warnIfReadable } from './file-privacy.js';

/** Time limit of reading a PIN (ms). */
const LONGEST_READING = 30_000;
/** Longest PIN (bytes). */
export const LONGEST_PIN = 255;
/** Maximum number of bytes that are read: the PIN is in the first line. */
const MOST_BYTES = 64 * 1024;
/** Interval between looks at a pipe that nobody has written to yet (ms). */
const PIPE_POLL = 25;

/** Error for a PIN that cannot be read. The message never contains the PIN or a part of it. */
export class PinError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'PinError';
  }
}

/** Limits of reading a PIN. */
export interface ReadingLimits {
  /** Time within which the PIN must be there (ms). */
  readonly within?: number;
  readonly signal?: AbortSignal | undefined;
}

function variable(name: string): Buffer {
  const value = process.env[name];
  if (value === undefined) throw new PinError(`pin.env: the environment variable ${name} is not set`);
  return Buffer.from(value, 'utf8');
}

/** Refuses a file that others can write: whoever can choose the PIN can lock the tokens. */
function checkPrivacy(file: string, found: Stats): void {
  const danger = dangerOf(file, found);
  if (danger !== undefined) throw new PinError(`pin.file: ${danger}`);
  warnIfReadable(file, found);
}

function failedFile(file: string, error: unknown): PinError {
  if (error instanceof PinError) return error;
  return new PinError(`pin.file: ${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`);
}

function failedCommand(program: string, error: unknown): PinError {
  const { code, status } = error as { code?: string | number; status?: number };
  const why = typeof code === 'string' ? code : `exit code ${code ?? status ?? 'unknown'}`;
  return new PinError(`pin.command: ${program} failed (${why})`);
}

function argumentsOf(command: PinReference['command']): readonly string[] {
  return typeof command === 'string' ? ['/bin/sh', '-c', command] : (command ?? []);
}

/** Reads a PIN's bytes on this thread. */
export function readBytes({ env, file, command }: PinReference): Buffer {
  if (env !== undefined) return variable(env);
  if (file !== undefined) {
    try {
      checkPrivacy(file, statSync(file));
      return readFileSync(file);
    } catch (error) {
      throw failedFile(file, error);
    }
  }
  const [program = '', ...args] = argumentsOf(command);
  try {
    return execFileSync(program, args, {
      env: environmentOfProgram(),
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: LONGEST_READING,
      maxBuffer: MOST_BYTES,
    });
  } catch (error) {
    throw failedCommand(program, error);
  }
}

/** Reads a PIN's bytes; the event loop goes on meanwhile. */
export async function fetchBytes(
  { env, file, command }: PinReference,
  { within = LONGEST_READING, signal }: ReadingLimits,
): Promise<Buffer> {
  signal?.throwIfAborted();
  if (env !== undefined) return variable(env);
  const limit = Math.min(within, LONGEST_READING);
  const overdue = AbortSignal.timeout(limit);
  const either = signal === undefined ? overdue : AbortSignal.any([overdue, signal]);
  try {
    return file !== undefined ? await contentOf(file, either) : await outputOf(argumentsOf(command), either);
  } catch (error) {
    if (error instanceof PinError) throw error;
    signal?.throwIfAborted();
    if (!overdue.aborted) throw file === undefined ? error : failedFile(file, error);
    const source = file === undefined ? `pin.command: ${argumentsOf(command)[0]}` : `pin.file: ${file}`;
    throw new PinError(`${source} gave no PIN within ${limit} ms`);
  }
}

async function contentOf(file: string, signal: AbortSignal): Promise<Buffer> {
  const found = await stat(file);
  checkPrivacy(file, found);
  if (!found.isFIFO()) return await readFile(file, { signal });
  // A pipe is opened without waiting: a thread that waits for its writer could not be ended.
  const pipe = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  const bytes = Buffer.alloc(MOST_BYTES);
  try {
    return bytes.subarray(0, await readPipe(pipe, bytes, signal));
  } catch (error) {
    bytes.fill(0);
    throw error;
  } finally {
    await pipe.close();
  }
}

/** Reads a pipe until its writer has closed it; returns the number of bytes. Without a writer reading gives nothing. */
async function readPipe(pipe: FileHandle, bytes: Buffer, signal: AbortSignal): Promise<number> {
  let length = 0;
  while (length < bytes.length) {
    signal.throwIfAborted();
    const read = await pipe.read(bytes, length, bytes.length - length).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'EAGAIN') return undefined;
      throw error;
    });
    if (read?.bytesRead === 0 && length > 0) break;
    length += read?.bytesRead ?? 0;
    if (read === undefined || read.bytesRead === 0) await pause(PIPE_POLL, undefined, { signal });
  }
  return length;
}

function outputOf([program = '', ...args]: readonly string[], signal: AbortSignal): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const options = { env: environmentOfProgram(), encoding: 'buffer', maxBuffer: MOST_BYTES } as const;
    const child = execFile(program, args, options, (error, stdout) => {
      signal.removeEventListener('abort', giveUp);
      if (error === null) resolve(stdout);
      else reject(failedCommand(program, error));
    });
    const giveUp = (): void => {
      reject(signal.reason);
      child.kill('SIGKILL');
      // Programs that the program has started may hold its output open.
      child.stdout?.destroy();
      child.stderr?.destroy();
    };
    signal.addEventListener('abort', giveUp, { once: true });
    child.stdin?.end();
  });
}

/** Takes the first line, without its end. */
export function lineOf(bytes: Buffer): Buffer {
  const lineEnd = bytes.findIndex((byte) => byte === 0x0a || byte === 0x0d);
  const pin = lineEnd < 0 ? bytes : bytes.subarray(0, lineEnd);
  if (pin.length === 0) throw new PinError('pin: the PIN is empty');
  if (pin.length > LONGEST_PIN) throw new PinError(`pin: expected at most ${LONGEST_PIN} bytes`);
  return pin;
}
