import type { StateName } from './state.js';

/** One try at a call on one member, and how it ended: the evidence in events and errors. */
export interface AttemptRecord {
  readonly member: string;
  /** The function that failed: the call's own, or C_OpenSession, C_Login, C_FindObjects on the way to it. */
  readonly function: string;
  /** The CKR code; undefined when the member gave none (its host ended, or did not answer). */
  readonly code: number | undefined;
  readonly outcome: string;
  /** ms from the attempt's start */
  readonly duration: number;
}

/** Which object, for people and for logs: never its value. */
export interface ObjectSummary {
  readonly handle: number;
  readonly label: string;
  /** CKA_ID in hexadecimal */
  readonly id: string;
}

/** A call that met a failure and succeeded elsewhere. */
export interface FailoverEvent {
  readonly type: 'failover';
  readonly function: string;
  readonly attempts: readonly AttemptRecord[];
  readonly member: string;
  /** ms from the call's start to its result */
  readonly duration: number;
}

export interface MemberEvent {
  readonly type: 'member';
  readonly member: string;
  readonly from: StateName;
  readonly to: StateName;
  readonly reason: string;
}

/** A replica that is not the group's key although it carries its name; it is not used. */
export interface MisalignedEvent {
  readonly type: 'misaligned';
  readonly member: string;
  readonly object: ObjectSummary;
}

/** An object that a member does not have; the others serve it. */
export interface MissingEvent {
  readonly type: 'missing';
  readonly member: string;
  readonly object: ObjectSummary;
}

/**
 * What replicated calls had left on a member is in order again: `undone` and `finished` are calls whose process is
 * gone, `caught up` is what a member had missed, `swept` what interrupted writes had left, `copied` what it lacked for
 * no known reason, `foreign` what it has beyond the others, `lacking` what nobody could give a new one, `updated` the group's own record and keys.
 */
export interface SyncEvent {
  readonly type: 'sync';
  readonly member: string;
  readonly what: 'undone' | 'finished' | 'caught up' | 'swept' | 'copied' | 'foreign' | 'lacking' | 'updated';
  readonly objects: readonly ObjectSummary[];
}

/** The group's record has changed: members came, left, or were taken out of service. */
export interface MembershipEvent {
  readonly type: 'membership';
  readonly revision: number;
  readonly members: readonly string[];
}

/**
 * The user PIN: `changed` on these members, `rolled back` on those that had the new one already, `finished` or taken
 * back where a change was interrupted, `pending` on those that are away and get it when they return.
 */
export interface PinEvent {
  readonly type: 'pin';
  readonly what: 'changed' | 'rolled back' | 'finished' | 'pending';
  readonly members: readonly string[];
}

/** How far long work on a member has come. */
export interface ProgressEvent {
  readonly type: 'progress';
  readonly member: string;
  readonly what: 'catching up' | 'copying' | 'comparing' | 'sealing' | 'backing up' | 'restoring';
  readonly done: number;
  readonly total: number;
  /** Objects a second, since it began. */
  readonly rate: number;
}

/** The configuration file has changed: taken up, or why it was not. */
export interface ConfigurationEvent {
  readonly type: 'configuration';
  readonly problem: string | undefined;
}

/** What a member's host or its library printed. May hold whatever the vendor prints: handle with care. */
export interface OutputEvent {
  readonly type: 'output';
  readonly member: string;
  readonly text: string;
}

export type GroupEvent =
  | FailoverEvent
  | MemberEvent
  | MisalignedEvent
  | MissingEvent
  | SyncEvent
  | MembershipEvent
  | PinEvent
  | ProgressEvent
  | ConfigurationEvent
  | OutputEvent;
