import type { SecretRef } from '../../spec/job.js';
import type { Signal, Task } from '../base/task.js';

/** Right to do one piece of work alone, among all processes that share the group's coordinator (Rule 21). */
export interface Claim {
  readonly name: string;
  /** Fence: a number that rises with every claim of the name. */
  readonly fence: number;
  /** Time at which the claim ends unless it is renewed before (ms of the port's clock). No write begins later. */
  readonly expiresAt: number;
  /** Completes when the claim has ended against the holder's will: the holder begins no more work under it. */
  readonly lost: Signal;
  /** Path of a file that the hosts lock too, so that the claim lasts as long as their work. */
  readonly path: string;
  release(): void;
}

/** Claim that the hosts of this process hold too. */
export interface HeldClaim {
  readonly isHeld: boolean;
  /** Completes when the claim has ended against the holder's will. */
  readonly lost: Signal;
  release(): void;
}

/** Limits and manner of waiting for a claim. */
export interface ClaimOptions {
  /** Time until which a held claim is waited for (ms of the port's clock); a free claim is taken in any case. */
  readonly deadline: number;
  /** Returns true if the caller gives up. */
  readonly isGivenUp?: (() => boolean) | undefined;
  /**
   * Name that versions without a coordinator claim for the same work: held too in groups of record format 1, which such
   * versions may use.
   */
  readonly formerName?: string | undefined;
}

/**
 * Coordinator of the processes that share a group: exclusion, liveness and news among them. Keys, records and journals
 * stay on the tokens; signing never asks the coordinator.
 */
export interface Coordinator {
  /** Name of this process in the records that it writes. */
  readonly writer: string;
  /** Path of the file that this process locks while it lives, and its hosts while they do. */
  readonly writerPath: string;
  /** Problem that an operator must know, such as a lock folder that other users cannot share; undefined without one. */
  readonly problem: string | undefined;
  /** Fires when a process announced a change of the group record. */
  readonly news: Signal;
  /** Fires when a process released a claim. */
  readonly releases: Signal;
  /** Claims a name; undefined if another process still holds it at the deadline, or when the caller gives up. */
  claim(name: string, options: ClaimOptions): Task<Claim | undefined>;
  /** Describes the holder of a name, or of its former name, for people; undefined if nobody holds it. */
  holderOf(name: string, formerName?: string): string | undefined;
  /** Returns true if a writer and its hosts have ended, false if one of them lives, undefined if that is unknown. */
  isWriterGone(writer: string): boolean | undefined;
  /** Returns true if a writer has ended, and a host of it still finishes a write. */
  isWriterEnding(writer: string): boolean;
  /** Returns true if no other process uses the group, as far as that can be known. */
  isAlone(): boolean;
  /** Tells all processes that the group record has changed. */
  announce(): void;
  /** Notes for all processes that members, given by their serials, lack a change that others have confirmed. */
  noteMissed(serials: readonly string[]): void;
  /** Returns the ids of the notes that say that a member lacks changes. */
  missedBy(serial: string): readonly string[];
  /** Removes notes on a member that has made up for what it lacked when they were listed. */
  forgetMissed(serial: string, notes: readonly string[]): void;
  /** Returns the CKR code if a token has refused a PIN so often, in all processes, that it is not to be tried again. */
  refusalOf(serial: string, pin: SecretRef): number | undefined;
  /** Remembers that a token has refused a PIN. */
  noteRefusal(serial: string, pin: SecretRef, code: number): void;
  /** Forgets the PINs that a token has refused. */
  forgetRefusals(serial: string): void;
  /** Returns the path of the file that a host locks while it writes on a token; undefined if there can be none. */
  tokenLockOf(serial: string): string | undefined;
}
