import { ulongOf } from '../../spec/attribute.js';
import type { KeyRecord, NotedAttribute, ObjectNote, Wrapped } from '../objects/key-note.js';
import {
  type AliasRecord,
  type AnyRecord,
  type ChangeRecord,
  type DomainNote,
  type DoneRecord,
  FIRST_FORMAT,
  FORMAT,
  type GroupRecord,
  type MemberNote,
  type OutcomeRecord,
  type PinNote,
} from './record.js';
import {
  type Check,
  either,
  fields,
  flag,
  hexText,
  integer,
  list,
  mapOf,
  nullable,
  oneOf,
  optional,
  pair,
  quantity,
  refined,
  text,
} from './shape.js';

/** Maximum size of a record's CKA_VALUE (bytes): far above that of the largest group record or journal entry. */
export const MOST_VALUE = 1_048_576;
/** Maximum length of names, ids and labels in records (characters). */
const MOST_TEXT = 4096;
/** Maximum length of ids, digests, proofs and salts in hexadecimal (characters). */
const MOST_DIGEST = 4096;
/** Maximum length of other bytes in hexadecimal (characters): only the size of the record bounds them. */
const MOST_HEX = 16 * MOST_VALUE;
/** Maximum number of members of a group, as in the configuration. */
const MOST_MEMBERS = 64;
/** Maximum number of serials in a list, which may name members that have left. */
const MOST_SERIALS = 2 * MOST_MEMBERS;
/** Maximum number of objects of a change: a key pair has two, the derivation of several keys four. */
const MOST_NOTES = 8;
/** Maximum number of attributes in a list. */
const MOST_ATTRIBUTES = 128;
/** Maximum number of values that describe an object; this version writes those of `describedTypes`. */
const MOST_DESCRIBED = 64;
/** Number of values after the class that are types: of a key, and of a certificate. */
const TYPES_DESCRIBED = 2;
/** Maximum number of ids in a list: only the size of the record bounds them. */
const MOST_IDS = 65_536;
/** Maximum of counts, revisions and mechanisms (number). */
const MOST_COUNT = 0xffff_ffff;
/** Largest virtual handle (48 bits). */
const LAST_HANDLE = 2 ** 48 - 1;
/** Maximum version that a record may state (number). */
const LAST_VERSION = 65_536;

/** Check of names, ids and labels. */
export const anyText: Check<string> = text(MOST_TEXT);
/** Check of salts, digests and ids in hexadecimal. */
export const digest: Check<string> = hexText(MOST_DIGEST);
/** Check of counts and of mechanisms. */
export const count: Check<number> = integer(0, MOST_COUNT);
/** Check of timestamps and times. A larger number could not grow by 1, as the next timestamp must. */
export const time: Check<number> = quantity(0, Number.MAX_SAFE_INTEGER);

const bytes = hexText(MOST_HEX);
const handle = integer(1, LAST_HANDLE);
const serials = list(anyText, MOST_SERIALS);
const ids = list(anyText, MOST_IDS);
const use = nullable(anyText);

const proofs = fields<ObjectNote['proofs']>({
  digest: optional(digest),
  mac: optional(digest),
  signature: optional(digest),
  derive: optional(digest),
  checkValue: optional(digest),
});

/** Returns true for a CK_ULONG in hexadecimal that is a safe integer. */
const isUlong = (digits: string): boolean => ulongOf(Buffer.from(digits, 'hex')) <= Number.MAX_SAFE_INTEGER;

/** Check of the values that describe an object: it has a class, and its types are numbers, as its identity needs. */
const described = refined(list(nullable(bytes), MOST_DESCRIBED), ([objectClass, ...others]) => {
  if (typeof objectClass !== 'string' || !isUlong(objectClass)) return false;
  const types = others.slice(0, TYPES_DESCRIBED);
  return types.every((type) => type === null || isUlong(type));
});

/** Check of the note of an object. */
export const objectNote: Check<ObjectNote> = fields<ObjectNote>({
  handle,
  ordinal: count,
  described,
  valueDigest: digest,
  use,
  proofs,
});

/** Check of attributes. */
export const attributes: Check<readonly NotedAttribute[]> = list(
  pair(integer(0, Number.MAX_SAFE_INTEGER), bytes),
  MOST_ATTRIBUTES,
);

/** Check of a wrapped key. */
export const wrappedKey: Check<Wrapped> = either(
  'domain',
  fields<Extract<Wrapped, { readonly domain: string }>>({ domain: digest, blob: bytes }),
  fields<Exclude<Wrapped, { readonly domain: string }>>({ transports: mapOf(anyText, bytes, MOST_SERIALS) }),
);

/** Check of the note of a member. */
export const memberNote: Check<MemberNote> = fields<MemberNote>({
  serial: anyText,
  name: anyText,
  id: optional(anyText),
  modulus: bytes,
  publicExponent: bytes,
  transport: digest,
});

/** Check of the note of a domain key. */
export const domainNote: Check<DomainNote> = fields<DomainNote>({ id: digest, proofs, until: optional(time) });

const group = fields<GroupRecord>({
  kind: oneOf('group'),
  format: optional(integer(FIRST_FORMAT, FORMAT)),
  id: anyText,
  label: anyText,
  revision: count,
  sequence: optional(count),
  signature: optional(fields<NonNullable<GroupRecord['signature']>>({ key: digest, value: digest })),
  epoch: optional(count),
  fence: optional(count),
  salt: digest,
  members: list(memberNote, MOST_MEMBERS),
  domain: domainNote,
  retired: optional(list(domainNote, MOST_IDS)),
  gone: optional(list(digest, MOST_IDS)),
  pending: optional(mapOf(anyText, bytes, MOST_SERIALS)),
  filling: optional(serials),
  drained: optional(serials),
  time: optional(time),
  writer: optional(anyText),
  scansKeyRecords: optional(flag),
  wrap: count,
  wrapsOddLengths: flag,
});

const change = fields<ChangeRecord>({
  kind: oneOf('intent', 'journal'),
  operation: anyText,
  what: oneOf('create', 'set', 'destroy'),
  notes: list(objectNote, MOST_NOTES),
  changes: attributes,
  former: attributes,
  alone: flag,
  before: optional(count),
  undoes: optional(flag),
  writer: anyText,
  time,
  expires: time,
  missed: serials,
});

const done = fields<DoneRecord>({ kind: oneOf('done'), id: anyText, serial: anyText, deeds: ids });

const alias = fields<AliasRecord>({ kind: oneOf('alias'), handle, identity: digest, proofs, use, time });

const pin = fields<PinNote>({
  kind: oneOf('pin'),
  operation: anyText,
  state: oneOf('changing', 'pending'),
  participants: serials,
  missed: serials,
  writer: anyText,
  time,
  expires: time,
});

const outcome = fields<OutcomeRecord>({ kind: oneOf('outcome'), operation: anyText, isDone: flag, time });

const key = fields<KeyRecord>({
  kind: oneOf('key'),
  note: objectNote,
  identity: optional(digest),
  template: attributes,
  answers: attributes,
  sealed: optional(wrappedKey),
  operation: anyText,
  writer: anyText,
  time,
});

/** Checks of records by their kind. */
type Schema<R> = ReadonlyMap<string, Check<R>>;

const schema: Schema<AnyRecord> = new Map<string, Check<AnyRecord>>([
  ['group', group],
  ['intent', change],
  ['journal', change],
  ['done', done],
  ['alias', alias],
  ['pin', pin],
  ['key', key],
  ['outcome', outcome],
]);

/**
 * Result of reading a record. `newer`: the record has a later format. `invalid`: the value does not have the form of a
 * record, or is over a limit. Undefined: there is no value, or the record is of a kind that this version does not know.
 */
export type ReadRecord<R> = R | 'newer' | 'invalid' | undefined;

const head = fields<{ readonly version: number; readonly kind: string }>({
  version: integer(FIRST_FORMAT, LAST_VERSION),
  kind: anyText,
});

/** Reads a value of at most `most` bytes as a record of one of the kinds in `kinds`. Never throws. */
export function readAs<R>(kinds: Schema<R>, value: Uint8Array, most: number): ReadRecord<R> {
  // Another process may just be writing the object.
  if (value.length === 0) return undefined;
  if (value.length > most) return 'invalid';
  try {
    const parsed: unknown = JSON.parse(Buffer.from(value.buffer, value.byteOffset, value.length).toString('utf8'));
    const { version, kind } = head(parsed);
    return version > FORMAT ? 'newer' : kinds.get(kind)?.(parsed);
  } catch {
    return 'invalid';
  }
}

/** Reads a record of the group from its CKA_VALUE. */
export function readRecord(value: Uint8Array): ReadRecord<AnyRecord> {
  return readAs(schema, value, MOST_VALUE);
}
