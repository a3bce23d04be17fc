import { CKA } from '../../spec/codes.js';
import type { ObjectSummary } from '../base/event.js';
import { describedTypes } from '../objects/identity.js';
import type { KeyRecord, NotedAttribute, ObjectNote, ProofKind } from '../objects/key-note.js';

/** Latest format of records (number); a process that reads a later one does not write. */
export const FORMAT = 2;
/** Format of groups that were created before handles stood in key records (number). */
export const FIRST_FORMAT = 1;

/** Note of a member: its token and the public half of its transport key pair. */
export interface MemberNote {
  /** Serial of the token. */
  readonly serial: string;
  readonly name: string;
  /** Id that tells the member from others, also of equal serials; undefined in groups of record format 1. */
  readonly id?: string | undefined;
  /** Public key of the pair, in hexadecimal. */
  readonly modulus: string;
  readonly publicExponent: string;
  /** CKA_ID of the pair, in hexadecimal. */
  readonly transport: string;
}

/** Note of a domain key. */
export interface DomainNote {
  /** CKA_ID in hexadecimal. */
  readonly id: string;
  readonly proofs: Readonly<Partial<Record<ProofKind, string>>>;
  /** Time at which another domain key replaced this one (ms of the wall clock); absent for the current one. */
  readonly until?: number;
}

/** Group record: the same on every member. */
export interface GroupRecord {
  readonly kind: 'group';
  /** Format of the group's records: 1 if undefined. */
  readonly format?: number | undefined;
  /** Id of the group. */
  readonly id: string;
  readonly label: string;
  /** Number of the record's version; each change adds one. */
  readonly revision: number;
  /** Number of the signed part's version; decides before `revision`. 0 if undefined. */
  readonly sequence?: number | undefined;
  /** Signature of the administration key over `statementOf` the record, and its public key; in hexadecimal. */
  readonly signature?: { readonly key: string; readonly value: string } | undefined;
  /** Epoch and fence of the coordinator between machines; no version writes them yet. */
  readonly epoch?: number | undefined;
  readonly fence?: number | undefined;
  /** Salt of fingerprints, in hexadecimal. */
  readonly salt: string;
  readonly members: readonly MemberNote[];
  /** Domain key. */
  readonly domain: DomainNote;
  /** Former domain keys that wrapped forms in key records still name. */
  readonly retired?: readonly DomainNote[];
  /** CKA_IDs of domain keys that no record names any more; members may remove them. */
  readonly gone?: readonly string[];
  /** Domain key, wrapped for members that do not have it yet, by serial; they install it when they return. */
  readonly pending?: Readonly<Record<string, string>>;
  /** Serials of members that still lack keys and do not serve yet. */
  readonly filling?: readonly string[];
  /** Serials of members that an operator has drained. */
  readonly drained?: readonly string[];
  /** Timestamp; decides between records of one revision, before `writer` does (see `isLater`). */
  readonly time?: number;
  readonly writer?: string;
  /** True if a member does not find data objects by CKA_OBJECT_ID: all key records are then read to find one. */
  readonly scansKeyRecords?: boolean | undefined;
  /** Wrapping mechanism (CKM) that was proven on all members. */
  readonly wrap: number;
  /** True if the mechanism also wraps secrets whose length is no multiple of eight bytes. */
  readonly wrapsOddLengths: boolean;
}

/** Record of a replicated change: an intent while it runs, a journal entry when members have missed it. */
export interface ChangeRecord {
  readonly kind: 'intent' | 'journal';
  /** Id of the call. */
  readonly operation: string;
  readonly what: 'create' | 'set' | 'destroy';
  /** Notes of the objects. */
  readonly notes: readonly ObjectNote[];
  /** Attributes that a set gives. */
  readonly changes: readonly NotedAttribute[];
  /** Attributes before the set. */
  readonly former: readonly NotedAttribute[];
  /** True if no member had an object of the identity before, so that this call made any that is found. */
  readonly alone: boolean;
  /** Maximum number of objects of the identity on a member before the call; undefined if that is not known. */
  readonly before?: number | undefined;
  /** True if the entry undoes a call that has failed. */
  readonly undoes?: boolean;
  /** Process that wrote the record (see `Coordinator.writer`). */
  readonly writer: string;
  /** Timestamp (see `Group.nextTimestamp`). */
  readonly time: number;
  /** Time by which the writer has certainly given up (ms of the wall clock). */
  readonly expires: number;
  /** Serials of the members that have missed the change. */
  readonly missed: readonly string[];
}

/** Done record, on a member: the journal entries that this member is done with. Entries on others are removed later. */
export interface DoneRecord {
  readonly kind: 'done';
  /** Id that tells the record from others of the member. */
  readonly id: string;
  readonly serial: string;
  /** Ids of the changes (see `changeIdOf`). */
  readonly deeds: readonly string[];
}

/** Maximum number of changes in one done record, which must not be over the limits of records. */
export const MOST_DEEDS = 1024;

/** Returns the id of a change: that of the call, or another one for undoing the call. */
export function changeIdOf({ operation, undoes }: ChangeRecord): string {
  return undoes === true ? `${operation} undone` : operation;
}

/** Alias record: the handle of an object that was renamed or is a twin, and so does not follow from the identity. */
export interface AliasRecord {
  readonly kind: 'alias';
  readonly handle: number;
  /** Digest of the identity, in hexadecimal. */
  readonly identity: string;
  readonly proofs: ObjectNote['proofs'];
  readonly use: string | null;
  /** Timestamp; of several aliases of a handle the newest counts. */
  readonly time: number;
}

/**
 * PIN note: tells of a change of the PIN, holds no secret, and can be read before a login. While `changing`, each
 * participant has the former or the new PIN. While `pending`, all members but those in `missed` have the new PIN.
 */
export interface PinNote {
  readonly kind: 'pin';
  /** Id of the change. */
  readonly operation: string;
  readonly state: 'changing' | 'pending';
  /** Serials of the members whose PIN is changed. */
  readonly participants: readonly string[];
  /** Serials of the members that were away. */
  readonly missed: readonly string[];
  /** Process that wrote the note (see `Coordinator.writer`). */
  readonly writer: string;
  /** Timestamp; the newest note counts. */
  readonly time: number;
  /** Time by which the writer has certainly given up (ms of the wall clock). */
  readonly expires: number;
}

/**
 * Outcome record: what became of a change whose caller was told that the outcome is unknown, or whose process ended in
 * the middle (Rule 20).
 */
export interface OutcomeRecord {
  readonly kind: 'outcome';
  /** Id of the call. */
  readonly operation: string;
  /** True if the change is done, false if it is not. */
  readonly isDone: boolean;
  /** Time at which the outcome was written (ms of the wall clock). */
  readonly time: number;
}

/** Returns the members of a group whose serials are not among those given. */
export function membersBeyond(
  record: Pick<GroupRecord, 'members'> | undefined,
  serials: readonly (string | undefined)[],
): readonly MemberNote[] {
  return (record?.members ?? []).filter(({ serial }) => !serials.includes(serial));
}

/** Returns true if a group record is later than another one of the group: by sequence, revision, time, then writer. */
export function isLater(record: GroupRecord, other: GroupRecord): boolean {
  if ((record.sequence ?? 0) !== (other.sequence ?? 0)) return (record.sequence ?? 0) > (other.sequence ?? 0);
  if (record.revision !== other.revision) return record.revision > other.revision;
  if ((record.time ?? 0) !== (other.time ?? 0)) return (record.time ?? 0) > (other.time ?? 0);
  return (record.writer ?? '') > (other.writer ?? '');
}

/** Records of the whole group: all kinds but key records and outcome records. */
export type GroupwideRecord = GroupRecord | ChangeRecord | DoneRecord | AliasRecord | PinNote;
/** Every kind of record. */
export type AnyRecord = GroupwideRecord | KeyRecord | OutcomeRecord;

/** Returns the change that undoes a change. */
export function reversalOf(record: ChangeRecord): ChangeRecord {
  const what = record.what === 'create' ? 'destroy' : record.what === 'destroy' ? 'create' : 'set';
  return { ...record, what, changes: record.former, former: record.changes, undoes: true };
}

/** Index of CKA_LABEL among `describedTypes`. */
const labelAt = describedTypes.indexOf(CKA.label);
/** Index of CKA_ID among `describedTypes`. */
const idAt = describedTypes.indexOf(CKA.id);

/** Returns the objects of a change, as events name them. */
export function summariesOf({ notes }: ChangeRecord): readonly ObjectSummary[] {
  return notes.map(({ handle, described }) => ({
    handle,
    label: Buffer.from(described[labelAt] ?? '', 'hex').toString(),
    id: described[idAt] ?? '',
  }));
}
