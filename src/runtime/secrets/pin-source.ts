import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, readFileSync, readSync, type Stats, statSync } from 'node:fs';
import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import type { PinReference } from '../../core/configuration/configuration.js';
import { addon } from '../hosts/addon.js';
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

/** Reads a PIN's bytes from a file or a program on this thread. */
export function readBytes({ file, command }: PinReference): Buffer {
  if (file === undefined) return outputSync(argumentsOf(command));
  try {
    checkPrivacy(file, statSync(file));
    return readFileSync(file);
  } catch (error) {
    throw failedFile(file, error);
  }
}

/** Reads a PIN's bytes from a file or a program; the event loop goes on meanwhile. */
export async function fetchBytes(
  { file, command }: PinReference,
  { within = LONGEST_READING, signal }: ReadingLimits,
): Promise<Buffer> {
  signal?.throwIfAborted();
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

/** Environment and standard streams of a program that writes a PIN to a pipe. */
const optionsFor = (writing: number) =>
  ({ env: environmentOfProgram(), stdio: ['ignore', writing, 'ignore'] }) satisfies SpawnOptions;

/** Starts a program that writes to a pipe, and closes the pipe's writing end here. */
function startWith(writing: number, program: string, args: readonly string[]): ChildProcess {
  try {
    return spawn(program, args, optionsFor(writing));
  } finally {
    closeSync(writing);
  }
}

/** Reads what a pipe holds: the whole output of a program that has ended. */
function drain(reading: number): Buffer {
  const bytes = Buffer.alloc(MOST_BYTES);
  let length = 0;
  try {
    for (let read = -1; read !== 0; length += read)
      read = readSync(reading, bytes, length, bytes.length - length, null);
  } catch (error) {
    const isOpen = (error as NodeJS.ErrnoException).code === 'EAGAIN';
    // Another program still holds the writing end: what it may add must not change the first line.
    if (!isOpen || !bytes.subarray(0, length).includes('\n')) {
      bytes.fill(0);
      throw isOpen ? new PinError('pin.command: the program has ended, and another one still writes the line') : error;
    }
  }
  return bytes.subarray(0, length);
}

/**
 * Runs a program and returns its output. The output comes through a pipe of this process: of a pipe that Node.js makes,
 * copies stay in memory that nobody wipes.
 */
async function outputOf([program = '', ...args]: readonly string[], signal: AbortSignal): Promise<Buffer> {
  const [reading, writing] = addon.pipe();
  try {
    const child = startWith(writing, program, args);
    const giveUp = (): unknown => child.kill('SIGKILL');
    signal.addEventListener('abort', giveUp, { once: true });
    const [code, end] = await once(child, 'exit', { signal }).finally(() =>
      signal.removeEventListener('abort', giveUp),
    );
    if (code !== 0) throw { code: end ?? code };
    return drain(reading);
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof PinError ? error : failedCommand(program, error);
  } finally {
    closeSync(reading);
  }
}

/** Runs a program on this thread and returns its output. */
function outputSync([program = '', ...args]: readonly string[]): Buffer {
  const [reading, writing] = addon.pipe();
  try {
    const { error, status, signal } = spawnSync(program, args, { ...optionsFor(writing), timeout: LONGEST_READING });
    if (error !== undefined || status !== 0) throw failedCommand(program, error ?? { code: signal ?? status });
    return drain(reading);
  } finally {
    closeSync(writing);
    closeSync(reading);
  }
}

/** Takes the first line, without its end. */
export function lineOf(bytes: Buffer): Buffer {
  const lineEnd = bytes.findIndex((byte) => byte === 0x0a || byte === 0x0d);
  const pin = lineEnd < 0 ? bytes : bytes.subarray(0, lineEnd);
  if (pin.length === 0) throw new PinError('pin: the PIN is empty');
  if (pin.length > LONGEST_PIN) throw new PinError(`pin: expected at most ${LONGEST_PIN} bytes`);
  return pin;
}
