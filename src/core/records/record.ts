import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import { CKA, CKO } from '../../spec/codes.js';
import type { ObjectSummary } from '../base/event.js';
import { describedTypes, RESERVED_LABEL } from '../objects/identity.js';
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

/** Returns the members of a group whose serials are not among those given. */
export function membersBeyond(
  record: Pick<GroupRecord, 'members'> | undefined,
  serials: readonly (string | undefined)[],
): readonly MemberNote[] {
  return (record?.members ?? []).filter(({ serial }) => !serials.includes(serial));
}

/** Returns true if a group record is later than another one of the group: by revision, then time, then writer. */
export function isLater(record: GroupRecord, other: GroupRecord): boolean {
  if (record.revision !== other.revision) return record.revision > other.revision;
  if ((record.time ?? 0) !== (other.time ?? 0)) return (record.time ?? 0) > (other.time ?? 0);
  return (record.writer ?? '') > (other.writer ?? '');
}

/** Records of the whole group: all kinds but key records. */
export type GroupwideRecord = GroupRecord | ChangeRecord | DoneRecord | AliasRecord | PinNote;
/** Every kind of record. */
export type AnyRecord = GroupwideRecord | KeyRecord;

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

/** CKA_APPLICATION of groupwide records. */
const APPLICATION = 'pkcs11-ha';
/** CKA_APPLICATION of key records. */
const KEY_APPLICATION = 'pkcs11-ha key';

function handleText(handle: number): string {
  return handle.toString(16).padStart(12, '0');
}

/** Returns the label of a record: its kind, and the handle, id or call that tells it from others. */
function labelOf(record: AnyRecord): string {
  switch (record.kind) {
    case 'key':
      return keyLabel(record.note.handle);
    case 'alias':
      return aliasLabel(record.handle);
    case 'group':
      return `${RESERVED_LABEL}group`;
    case 'done':
      return `${RESERVED_LABEL}done ${record.id}`;
    default:
      return `${RESERVED_LABEL}${record.kind} ${record.operation}`;
  }
}

function aliasLabel(handle: number): string {
  return `${RESERVED_LABEL}alias ${handleText(handle)}`;
}

function keyLabel(handle: number): string {
  return `${RESERVED_LABEL}key ${handleText(handle)}`;
}

/** Returns the handle that the label of a key record tells; undefined for another label. */
export function handleInLabel(label: Uint8Array | undefined): number | undefined {
  const digits = /^pkcs11-ha:key ([0-9a-f]{12})$/u.exec(Buffer.from(label ?? []).toString('latin1'))?.[1];
  return digits === undefined ? undefined : Number.parseInt(digits, 16);
}

const dataClass: Attribute = { type: CKA.class, value: ulongBytes(CKO.data) };

/** Template that finds the groupwide records. */
export const groupwideTemplate: readonly Attribute[] = [
  dataClass,
  { type: CKA.application, value: Buffer.from(APPLICATION) },
];

/** Template that finds the group record. */
export const groupTemplate: readonly Attribute[] = [
  dataClass,
  { type: CKA.label, value: Buffer.from(`${RESERVED_LABEL}group`) },
];

/** Returns the template that finds all key records, or those of one handle. */
export function keyRecordTemplate(handle?: number): readonly Attribute[] {
  const template = [dataClass, { type: CKA.application, value: Buffer.from(KEY_APPLICATION) }];
  return handle === undefined ? template : [...template, { type: CKA.label, value: Buffer.from(keyLabel(handle)) }];
}

/** Length of the part of an identity's digest that a key record shows (characters). */
export const SHOWN_DIGEST = 32;

function shownDigest(identity: string): Attribute {
  return { type: CKA.objectId, value: Buffer.from(identity.slice(0, SHOWN_DIGEST), 'hex') };
}

/** Returns the template that finds the key records of an identity, given by its digest in hexadecimal. */
export function keyRecordsOfIdentity(identity: string): readonly Attribute[] {
  return [...keyRecordTemplate(), shownDigest(identity)];
}

/** Returns the template that finds the alias record of a handle. */
export function aliasTemplate(handle: number): readonly Attribute[] {
  return [dataClass, { type: CKA.label, value: Buffer.from(aliasLabel(handle)) }];
}

/** Returns the template that finds a record by its label. */
export function labelTemplate(record: AnyRecord): readonly Attribute[] {
  return [dataClass, { type: CKA.label, value: Buffer.from(labelOf(record)) }];
}

/** Attributes that are read of a record. */
export const recordTypes: readonly number[] = [CKA.value];

/** Returns the template that creates a record, as a token object or session object. */
export function recordTemplate(record: AnyRecord, token: boolean): readonly Attribute[] {
  const application = record.kind === 'key' ? KEY_APPLICATION : APPLICATION;
  const isShown = record.kind === 'key' && record.identity !== undefined;
  return [
    dataClass,
    { type: CKA.token, value: Uint8Array.of(token ? 1 : 0) },
    { type: CKA.private, value: Uint8Array.of(1) },
    { type: CKA.label, value: Buffer.from(labelOf(record)) },
    { type: CKA.application, value: Buffer.from(application) },
    ...(isShown ? [shownDigest(record.identity)] : []),
    { type: CKA.value, value: Buffer.from(JSON.stringify({ version: versionOf(record), ...record })) },
  ];
}

/**
 * Returns the version that a record states. The group record states the group's format, so that former versions write
 * nothing there; they ignore fields that they do not know in other records.
 */
function versionOf(record: AnyRecord): number {
  return record.kind === 'group' ? (record.format ?? FIRST_FORMAT) : FIRST_FORMAT;
}

/** Reads a record from its CKA_VALUE. Returns `newer` for a later format, undefined if the value is no record. */
export function readRecord(value: Uint8Array): AnyRecord | 'newer' | undefined {
  try {
    const parsed = JSON.parse(Buffer.from(value).toString('utf8')) as { version?: unknown; kind?: unknown };
    if (typeof parsed.version !== 'number' || typeof parsed.kind !== 'string') return undefined;
    return parsed.version > FORMAT ? 'newer' : (parsed as unknown as AnyRecord);
  } catch {
    return undefined;
  }
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
