import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import { CKA, CKO } from '../../spec/codes.js';
import type { ObjectSummary } from '../base/event.js';
import { describedTypes, RESERVED_LABEL } from '../objects/identity.js';
import type { KeyRecord, NotedAttribute, ObjectNote, ProofKind } from '../objects/key-note.js';

/** The format that this version writes; whoever meets a newer one does not write. */
export const FORMAT = 1;

/** A member of the group: its token, and the public half of the key pair that keys travel to it under. */
export interface MemberNote {
  readonly serial: string;
  readonly name: string;
  readonly modulus: string;
  readonly publicExponent: string;
  /** CKA_ID of the pair. */
  readonly transport: string;
}

/** A domain key: its CKA_ID, and what proves it. */
export interface DomainNote {
  readonly id: string;
  readonly proofs: Readonly<Partial<Record<ProofKind, string>>>;
  /** Of one before: when another took its place (ms of the wall clock). */
  readonly until?: number;
}

/** The group itself: on every member, the same on all. */
export interface GroupRecord {
  readonly kind: 'group';
  readonly id: string;
  readonly label: string;
  /** Counts up with each change of the record. */
  readonly revision: number;
  readonly salt: string;
  readonly members: readonly MemberNote[];
  /** The key that keys travel under. */
  readonly domain: DomainNote;
  /** Those before it, as long as sealed keys name them. */
  readonly retired?: readonly DomainNote[];
  /** Ids of those that no record names any more: they may be taken off the members. */
  readonly gone?: readonly string[];
  /** The domain key wrapped for members that have not got it yet, by serial: they take it in when they return. */
  readonly pending?: Readonly<Record<string, string>>;
  /** Serials of members that do not have all keys yet: they do not serve. */
  readonly filling?: readonly string[];
  /** Serials of members that an operator has taken out of service. */
  readonly drained?: readonly string[];
  /** Of two records of one revision the later counts, then that of the greater writer. */
  readonly time?: number;
  readonly writer?: string;
  /** The wrapping mechanism that was proven on all members. */
  readonly wrap: number;
  /** Whether secrets of a length that is no multiple of eight come through it unharmed. */
  readonly wrapsOddLengths: boolean;
}

/**
 * A replicated call: as an intent while it is under way, as a journal entry when some members have missed it.
 * `changes` and `former` are the attributes that a `set` gives and takes away.
 */
export interface ChangeRecord {
  readonly kind: 'intent' | 'journal';
  readonly operation: string;
  readonly what: 'create' | 'set' | 'destroy';
  readonly notes: readonly ObjectNote[];
  readonly changes: readonly NotedAttribute[];
  readonly former: readonly NotedAttribute[];
  /** Nothing of that name was on any member before: what is found of it was made by this call. */
  readonly alone: boolean;
  /** How many objects of that name a member had before at most; undefined where that is not known. */
  readonly before?: number | undefined;
  /** It takes back a call that has not happened. */
  readonly undoes?: boolean;
  readonly writer: string;
  readonly time: number;
  /** When its writer has given up for certain (ms of the wall clock). */
  readonly expires: number;
  /** Serials of the members that have not got it. */
  readonly missed: readonly string[];
}

/**
 * Which journal entries a member is done with, on that member itself: they may still stand on others, until those have
 * the time to let go of them.
 */
export interface DoneRecord {
  readonly kind: 'done';
  /** Tells it from others of its member. */
  readonly id: string;
  readonly serial: string;
  readonly deeds: readonly string[];
}

/** What a member has to do by a journal entry: the call that it is about, or that this has not happened. */
export function changeIdOf({ operation, undoes }: ChangeRecord): string {
  return undoes === true ? `${operation} undone` : operation;
}

/** A handle that does not follow from the object's identity: it was renamed, or it is a twin. */
export interface AliasRecord {
  readonly kind: 'alias';
  readonly handle: number;
  /** Digest of the identity. */
  readonly identity: string;
  readonly proofs: ObjectNote['proofs'];
  readonly use: string | null;
  /** Of several identities of one handle, the newest is right. */
  readonly time: number;
}

/** The members of a group that are none of these tokens. */
export function membersBeyond(
  record: Pick<GroupRecord, 'members'> | undefined,
  serials: readonly (string | undefined)[],
): readonly MemberNote[] {
  return (record?.members ?? []).filter(({ serial }) => !serials.includes(serial));
}

/** Whether a group's record is later than another one of that group. */
export function isLater(one: GroupRecord, other: GroupRecord): boolean {
  if (one.revision !== other.revision) return one.revision > other.revision;
  if ((one.time ?? 0) !== (other.time ?? 0)) return (one.time ?? 0) > (other.time ?? 0);
  return (one.writer ?? '') > (other.writer ?? '');
}

export type GroupwideRecord = GroupRecord | ChangeRecord | DoneRecord | AliasRecord | PinNote;
export type AnyRecord = GroupwideRecord | KeyRecord;

/** What a member has to do so that a call has not happened. */
export function reversalOf(record: ChangeRecord): ChangeRecord {
  const what = record.what === 'create' ? 'destroy' : record.what === 'destroy' ? 'create' : 'set';
  return { ...record, what, changes: record.former, former: record.changes, undoes: true };
}

const labelAt = describedTypes.indexOf(CKA.label);
const idAt = describedTypes.indexOf(CKA.id);

/** The objects of a change as events name them. */
export function summariesOf({ notes }: ChangeRecord): readonly ObjectSummary[] {
  return notes.map(({ handle, described }) => ({
    handle,
    label: Buffer.from(described[labelAt] ?? '', 'hex').toString(),
    id: described[idAt] ?? '',
  }));
}

const APPLICATION = 'pkcs11-ha';
const KEY_APPLICATION = 'pkcs11-ha key';

function handleText(handle: number): string {
  return handle.toString(16).padStart(12, '0');
}

/** The label of a record: its kind, and of keys and aliases the handle that it is about. */
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

const dataClass: Attribute = { type: CKA.class, value: ulongBytes(CKO.data) };

/** Finds the records of the whole group, that is all but those of keys. */
export const groupwideTemplate: readonly Attribute[] = [
  dataClass,
  { type: CKA.application, value: Buffer.from(APPLICATION) },
];

/** Finds the record of the group itself. */
export const groupTemplate: readonly Attribute[] = [
  dataClass,
  { type: CKA.label, value: Buffer.from(`${RESERVED_LABEL}group`) },
];

/** Finds the records of keys; of one handle, where one is given. */
export function keyRecordTemplate(handle?: number): readonly Attribute[] {
  const template = [dataClass, { type: CKA.application, value: Buffer.from(KEY_APPLICATION) }];
  return handle === undefined ? template : [...template, { type: CKA.label, value: Buffer.from(keyLabel(handle)) }];
}

export function aliasTemplate(handle: number): readonly Attribute[] {
  return [dataClass, { type: CKA.label, value: Buffer.from(aliasLabel(handle)) }];
}

export function labelTemplate(record: AnyRecord): readonly Attribute[] {
  return [dataClass, { type: CKA.label, value: Buffer.from(labelOf(record)) }];
}

/** What is read of a record. */
export const recordTypes: readonly number[] = [CKA.value];

/** The template that creates a record. */
export function recordTemplate(record: AnyRecord, token: boolean): readonly Attribute[] {
  const application = record.kind === 'key' ? KEY_APPLICATION : APPLICATION;
  return [
    dataClass,
    { type: CKA.token, value: Uint8Array.of(token ? 1 : 0) },
    { type: CKA.private, value: Uint8Array.of(1) },
    { type: CKA.label, value: Buffer.from(labelOf(record)) },
    { type: CKA.application, value: Buffer.from(application) },
    { type: CKA.value, value: Buffer.from(JSON.stringify({ version: FORMAT, ...record })) },
  ];
}

/** A record's value: the record, `newer` for one of a later format, undefined for what is none. */
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
 * Says on a token, without any secret and readable before a login, that the PIN is being changed: `changing`, a
 * participant has the one or the other; `pending`, all have the new one but for those in `missed`.
 */
export interface PinNote {
  readonly kind: 'pin';
  readonly operation: string;
  readonly state: 'changing' | 'pending';
  /** Serials of the members that are changed, and of those that were away. */
  readonly participants: readonly string[];
  readonly missed: readonly string[];
  readonly writer: string;
  readonly time: number;
  /** When its writer has given up for certain (ms of the wall clock). */
  readonly expires: number;
}
