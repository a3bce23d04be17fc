import type { Hsm } from './softhsm.js';

/** Group of a fixture: its tokens, and what it had when it was made. */
export interface FixtureGroup {
  readonly pin: string;
  readonly soPin: string;
  readonly tokens: readonly { readonly label: string; readonly serial: string }[];
  /** Secret keys, with 16 zero bytes encrypted in hexadecimal. */
  readonly keys: readonly { readonly label: string; readonly handle: number; readonly result: string }[];
  readonly objects: readonly { readonly label: string; readonly class: string; readonly handle: number }[];
}

export function readFixture(name: string): FixtureGroup;
export function unpackFixture(name: string, folder: string): readonly Hsm[];
