import { isMainThread } from 'node:worker_threads';
import type { PinReference } from '../../core/configuration/configuration.js';
import { InputError } from '../../spec/input.js';
import { addon, type NativeSecret } from '../hosts/addon.js';
import { fetchBytes, LONGEST_PIN, lineOf, PinError, type ReadingLimits, readBytes } from './pin-source.js';

function guard(bytes: Buffer): NativeSecret {
  try {
    return new addon.Secret(lineOf(bytes));
  } finally {
    bytes.fill(0);
  }
}

/** Environment that this process has unless the program replaces it. */
const ownEnvironment = process.env;

/** Reads the variable where JavaScript sees it: a worker, or a program that replaces `process.env`, has its own. */
function valueInScript(name: string): NativeSecret | undefined {
  const value = process.env[name];
  return value === undefined || value === '' ? undefined : guard(Buffer.from(value, 'utf8'));
}

/** Takes a PIN from an environment variable, which may be empty afterwards; see `Secret.fromEnvironment`. */
function takeVariable(name: string, erases: boolean): NativeSecret {
  // Looks into the process's own environment first: JavaScript's text of a value could not be wiped.
  const secret =
    isMainThread && process.env === ownEnvironment
      ? (addon.Secret.fromEnvironment(name, erases) ?? valueInScript(name))
      : (valueInScript(name) ?? addon.Secret.fromEnvironment(name, erases));
  if (secret === undefined) {
    const why =
      process.env[name] === undefined
        ? 'is not set'
        : 'is empty, or its first line is; a process that opens a group empties the variable that it was started with, so give programs that it starts the PIN by file or command';
    throw new PinError(`pin.env: the environment variable ${name} ${why}`);
  }
  if (secret.length <= LONGEST_PIN) return secret;
  secret.wipe();
  throw new PinError(`pin.env: expected at most ${LONGEST_PIN} bytes in the environment variable ${name}`);
}

/**
 * Reads a PIN, without its line end, into guarded memory, and wipes the buffer it was read into. The event loop waits
 * meanwhile: for callers that wait for each call. A variable is not erased: such a caller is an application of pkcs11js's
 * API, which passes the PIN to C_Login itself, and may read it from the same variable.
 */
export function readPin(reference: PinReference): NativeSecret {
  return reference.env === undefined ? guard(readBytes(reference)) : takeVariable(reference.env, false);
}

/** Reads a PIN into guarded memory, and erases the variable that held it; the event loop goes on meanwhile. */
export async function fetchPin(reference: PinReference, limits: ReadingLimits = {}): Promise<NativeSecret> {
  limits.signal?.throwIfAborted();
  return reference.env === undefined ? guard(await fetchBytes(reference, limits)) : takeVariable(reference.env, true);
}

/** Reads a secret into a plain buffer and keeps nothing of it, nor erases its variable; the caller wipes the buffer. */
export async function fetchPinBytes(reference: PinReference): Promise<Buffer> {
  const { env } = reference;
  const secret = env === undefined ? guard(await fetchBytes(reference, {})) : takeVariable(env, false);
  try {
    return secret.copy();
  } finally {
    secret.wipe();
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
