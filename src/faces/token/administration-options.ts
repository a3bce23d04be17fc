import type { PinReference, TokenSelector } from '../../core/configuration/configuration.js';
import type { CallOptions } from './input.js';

export interface AddMemberOptions extends CallOptions {
  /** `remove` removes another group's records and keys from the token; if omitted, such a token is refused. */
  readonly existing?: 'remove';
}

export interface RemoveMemberOptions extends CallOptions {
  /** True to remove the applications' objects from the token too. */
  readonly wipe?: boolean;
}

export interface SynchronizeOptions extends CallOptions {
  /** True to report the differences without repairing them. */
  readonly dryRun?: boolean;
}

export interface ChangePinOptions extends CallOptions {
  /** True to let members that are away get the new PIN when they return; otherwise all members must be reachable. */
  readonly pending?: boolean;
}

/** New PIN, or a reference to it. */
export type PinInput = PinReference | string | Uint8Array;

/** Token that is not a member, for backup and restore. */
export interface BackupTokenInput {
  /** Path of the vendor's PKCS#11 library. */
  readonly module: string;
  readonly token: TokenSelector;
  /** Environment variables for the token's host process only. */
  readonly env?: Readonly<Record<string, string>>;
  readonly libraryParameters?: string;
  /** Reference to the token's PIN, which is tried once; the group's PIN by default. */
  readonly pin?: PinReference;
}

export interface BackupOptions extends CallOptions {
  /**
   * `remove` removes a group's records, or another group's backup, from the token for good; otherwise it is refused.
   */
  readonly existing?: 'remove';
}
