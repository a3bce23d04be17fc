import type { PinReference } from '../../core/configuration/configuration.js';
import { InputError } from '../../spec/input.js';
import { addon, type NativeSecret } from '../hosts/addon.js';
import { fetchBytes, LONGEST_PIN, lineOf, type ReadingLimits, readBytes } from './pin-source.js';

function guard(bytes: Buffer): NativeSecret {
  try {
    return new addon.Secret(lineOf(bytes));
  } finally {
    bytes.fill(0);
  }
}

/**
 * Reads a PIN, without its line end, into guarded memory, and wipes the buffer it was read into. The event loop waits
 * meanwhile: for callers that wait for each call.
 */
export function readPin(reference: PinReference): NativeSecret {
  return guard(readBytes(reference));
}

/** Reads a PIN into guarded memory; the event loop goes on meanwhile. */
export async function fetchPin(reference: PinReference, limits: ReadingLimits = {}): Promise<NativeSecret> {
  return guard(await fetchBytes(reference, limits));
}

/** Reads a PIN into a plain buffer, for writing it to a file; the caller wipes the buffer. */
export async function fetchPinBytes(reference: PinReference): Promise<Buffer> {
  const bytes = await fetchBytes(reference, {});
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
