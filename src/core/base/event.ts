import type { StateName } from './state.js';

/** Record of an attempt: one try of a call on one member, and its outcome. Events and errors carry it. */
export interface AttemptRecord {
  readonly member: string;
  /** Function that failed: the call's own, or one before it (C_OpenSession, C_Login, C_FindObjects). */
  readonly function: string;
  /** CKR code; undefined if the member gave none (its host ended or did not answer). */
  readonly code: number | undefined;
  readonly outcome: string;
  /** Time since the attempt's start (ms). */
  readonly duration: number;
}

/** Summary of an object for people and logs, without its value. */
export interface ObjectSummary {
  readonly handle: number;
  readonly label: string;
  /** CKA_ID in hexadecimal. */
  readonly id: string;
}

/** Event: a call failed on one member and succeeded on another. */
export interface FailoverEvent {
  readonly type: 'failover';
  readonly function: string;
  readonly attempts: readonly AttemptRecord[];
  /** Member that gave the result. */
  readonly member: string;
  /** Time from the call's start to its result (ms). */
  readonly duration: number;
}

/** Event: a member changed its state. */
export interface MemberEvent {
  readonly type: 'member';
  readonly member: string;
  readonly from: StateName;
  readonly to: StateName;
  readonly reason: string;
}

/** Event: a member's replica has the identity of a group's key, but is another key. The group does not use it. */
export interface MisalignedEvent {
  readonly type: 'misaligned';
  readonly member: string;
  readonly object: ObjectSummary;
}

/** Event: a member lacks an object. The other members serve it. */
export interface MissingEvent {
  readonly type: 'missing';
  readonly member: string;
  readonly object: ObjectSummary;
}

/**
 * Event: a member's objects were brought into step, or found out of step. By `what`:
 *
 * - `undone`, `finished`: an interrupted call whose process is gone.
 * - `caught up`: a change that the member had missed.
 * - `swept`: partial objects, which interrupted writes had left.
 * - `copied`: objects that the member lacked for no known reason.
 * - `foreign`: objects that the member has and a member in step lacks.
 * - `lacking`: objects that could not be copied to a new member.
 * - `updated`: the group's own record and keys.
 */
export interface SyncEvent {
  readonly type: 'sync';
  readonly member: string;
  readonly what: 'undone' | 'finished' | 'caught up' | 'swept' | 'copied' | 'foreign' | 'lacking' | 'updated';
  readonly objects: readonly ObjectSummary[];
}

/** Event: the group record changed, since members were added, removed or taken out of service. */
export interface MembershipEvent {
  readonly type: 'membership';
  readonly revision: number;
  readonly members: readonly string[];
}

/**
 * Event: the user PIN of these members. By `what`:
 *
 * - `changed`: the members have the new PIN.
 * - `rolled back`: the members that had the new PIN have the former one again.
 * - `finished`: a change that was interrupted is complete.
 * - `pending`: the members are away, and get the new PIN when they return.
 */
export interface PinEvent {
  readonly type: 'pin';
  readonly what: 'changed' | 'rolled back' | 'finished' | 'pending';
  readonly members: readonly string[];
}

/** Event: progress of long work on a member. */
export interface ProgressEvent {
  readonly type: 'progress';
  readonly member: string;
  readonly what: 'catching up' | 'copying' | 'comparing' | 'sealing' | 'backing up' | 'restoring' | 'upgrading';
  /** Number of objects that are done, and of all. */
  readonly done: number;
  readonly total: number;
  /** Objects per second since the work began. */
  readonly rate: number;
}

/** Event: the configuration file changed. */
export interface ConfigurationEvent {
  readonly type: 'configuration';
  /** Reason for ignoring the change; undefined if the group applied it. */
  readonly problem: string | undefined;
}

/** Event: processes that share the group may not exclude each other; an operator must mend the lock folder. */
export interface CoordinationEvent {
  readonly type: 'coordination';
  readonly problem: string;
}

/** Event: values on a member's token do not have the form of records. The group ignores and keeps them (Rule 18). */
export interface RecordsEvent {
  readonly type: 'records';
  readonly member: string;
  /** Number of the records, as a text. */
  readonly problem: string;
}

/** Event: a member's host or its library printed a text. Handle with care: vendors may print secrets. */
export interface OutputEvent {
  readonly type: 'output';
  readonly member: string;
  readonly text: string;
}

/** Every event that a group emits. */
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
  | CoordinationEvent
  | RecordsEvent
  | OutputEvent;
