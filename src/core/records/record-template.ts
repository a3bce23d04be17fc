import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import { CKA, CKO, CKR } from '../../spec/codes.js';
import { refuse } from '../base/error.js';
import { RESERVED_LABEL } from '../objects/identity.js';
import { type AnyRecord, FIRST_FORMAT, type GroupRecord } from './record.js';
import { readRecord } from './record-schema.js';

/** CKA_APPLICATION of groupwide records. */
const APPLICATION = 'pkcs11-ha';
/** CKA_APPLICATION of key records. */
const KEY_APPLICATION = 'pkcs11-ha key';
/** CKA_APPLICATION of outcome records: only who asks for an outcome reads them. */
const OUTCOME_APPLICATION = 'pkcs11-ha outcome';

/** CKA_APPLICATION of the records that are not groupwide, by kind. */
const applications: ReadonlyMap<AnyRecord['kind'], string> = new Map<AnyRecord['kind'], string>([
  ['key', KEY_APPLICATION],
  ['outcome', OUTCOME_APPLICATION],
]);

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
    case 'outcome':
      return outcomeLabel(record.operation);
    case 'done':
      return `${RESERVED_LABEL}done ${record.id}`;
    default:
      return `${RESERVED_LABEL}${record.kind} ${record.operation}`;
  }
}

function outcomeLabel(operation: string): string {
  return `${RESERVED_LABEL}outcome ${operation}`;
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

/** CKA_CLASS of records. */
export const dataClass: Attribute = { type: CKA.class, value: ulongBytes(CKO.data) };

/** Attributes of records and own keys on tokens: without a login nobody can make a private object (Rule 18). */
export const privateOnToken: readonly Attribute[] = [
  { type: CKA.token, value: Uint8Array.of(1) },
  { type: CKA.private, value: Uint8Array.of(1) },
];

/** Attributes of all records that stand on tokens. */
export const recordAttributes: readonly Attribute[] = [dataClass, ...privateOnToken];

/** Label of PIN notes. */
export const PIN_NOTE_LABEL: string = `${RESERVED_LABEL}pin-change`;

/** Template that finds the PIN notes, which are public: no login is needed. */
export const pinNoteTemplate: readonly Attribute[] = [
  dataClass,
  { type: CKA.token, value: Uint8Array.of(1) },
  { type: CKA.private, value: Uint8Array.of(0) },
  { type: CKA.label, value: Buffer.from(PIN_NOTE_LABEL) },
];

/** Template that finds the groupwide records, without the PIN notes. */
export const groupwideTemplate: readonly Attribute[] = [
  ...recordAttributes,
  { type: CKA.application, value: Buffer.from(APPLICATION) },
];

/** Template that finds the group record. */
export const groupTemplate: readonly Attribute[] = [
  ...recordAttributes,
  { type: CKA.label, value: Buffer.from(`${RESERVED_LABEL}group`) },
];

/** Returns the template that finds all key records, or those of one handle. */
export function keyRecordTemplate(handle?: number): readonly Attribute[] {
  const template = [...recordAttributes, { type: CKA.application, value: Buffer.from(KEY_APPLICATION) }];
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

/** Returns the template that finds the key records of an identity; all of them if a member finds none by it. */
export function keyRecordSearch(record: GroupRecord | undefined, identity: string): readonly Attribute[] {
  return record?.scansKeyRecords === true ? keyRecordTemplate() : keyRecordsOfIdentity(identity);
}

/** Returns the template that finds all outcome records, or that of one change. */
export function outcomeTemplate(operation?: string): readonly Attribute[] {
  const template = [...recordAttributes, { type: CKA.application, value: Buffer.from(OUTCOME_APPLICATION) }];
  if (operation === undefined) return template;
  return [...template, { type: CKA.label, value: Buffer.from(outcomeLabel(operation)) }];
}

/** Returns the template that finds the alias record of a handle. */
export function aliasTemplate(handle: number): readonly Attribute[] {
  return [...recordAttributes, { type: CKA.label, value: Buffer.from(aliasLabel(handle)) }];
}

/** Returns the template that finds a record by its label. */
export function labelTemplate(record: AnyRecord): readonly Attribute[] {
  return [...recordAttributes, { type: CKA.label, value: Buffer.from(labelOf(record)) }];
}

/** Attributes that are read of a record. */
export const recordTypes: readonly number[] = [CKA.value];

/**
 * Returns the template that creates a record, as a token object or session object. Refuses a record that no process
 * would read again, since it is over a limit.
 */
export function recordTemplate(record: AnyRecord, token: boolean): readonly Attribute[] {
  const application = applications.get(record.kind) ?? APPLICATION;
  const isShown = record.kind === 'key' && record.identity !== undefined;
  const value = Buffer.from(JSON.stringify({ version: versionOf(record), ...record }));
  if (typeof readRecord(value) !== 'object')
    refuse(CKR.attributeValueInvalid, `the attributes are too large or too many for the group's records`);
  return [
    dataClass,
    { type: CKA.token, value: Uint8Array.of(token ? 1 : 0) },
    { type: CKA.private, value: Uint8Array.of(1) },
    { type: CKA.label, value: Buffer.from(labelOf(record)) },
    { type: CKA.application, value: Buffer.from(application) },
    ...(isShown ? [shownDigest(record.identity)] : []),
    { type: CKA.value, value },
  ];
}

/**
 * Returns the version that a record states. The group record states the group's format, so that former versions write
 * nothing there; they ignore fields that they do not know in other records.
 */
function versionOf(record: AnyRecord): number {
  return record.kind === 'group' ? (record.format ?? FIRST_FORMAT) : FIRST_FORMAT;
}
