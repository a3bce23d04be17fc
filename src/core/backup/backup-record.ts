import type { Attribute } from '../../spec/attribute.js';
import { CKA, CKR } from '../../spec/codes.js';
import { refuse } from '../base/error.js';
import { RESERVED_LABEL } from '../objects/identity.js';
import type { NotedAttribute, ObjectNote, Wrapped } from '../objects/key-note.js';
import { type DomainNote, FORMAT, type GroupRecord, type MemberNote } from '../records/record.js';
import {
  anyText,
  attributes,
  count,
  digest,
  domainNote,
  memberNote,
  objectNote,
  type ReadRecord,
  readAs,
  time,
  wrappedKey,
} from '../records/record-schema.js';
import { dataClass, recordAttributes } from '../records/record-template.js';
import { type Check, fields, flag, oneOf, optional } from '../records/shape.js';
import type { KeyLabels } from '../wrapping/domain-key.js';

/**
 * Labels of a backup's own keys. The labels differ from those of a member's keys, which are removed when the member
 * leaves a group: a token with a backup may be a member at other times.
 */
export const backupLabels: KeyLabels = {
  domain: `${RESERVED_LABEL}backup key`,
  transport: `${RESERVED_LABEL}backup transport`,
};

/** Record of an object in a backup. */
export interface BackupRecord {
  readonly kind: 'backup';
  /** Object; its proofs were made with the salt of the head. */
  readonly note: ObjectNote;
  /** Attributes that create the object again; for a public object with its value. */
  readonly template: readonly NotedAttribute[];
  /** Attributes that the group answers in place of the token. */
  readonly answers: readonly NotedAttribute[];
  /** Wrapped key that only the backup's token can unwrap; undefined for a public object. */
  readonly wrapped: Wrapped | undefined;
  /** True if the group kept a sealed form of the key. */
  readonly sealed: boolean;
  /** True if an alias record gave the object its handle. */
  readonly alias: boolean;
}

/** Head of a backup, which makes the backup valid: it is written after all records. */
export interface BackupHead {
  readonly kind: 'backup head';
  /** The group's id and label. */
  readonly group: string;
  readonly label: string;
  /** Salt of the proofs in the records (hex). */
  readonly salt: string;
  /** Key under which all keys are wrapped; its id is part of the records' labels. */
  readonly domain: DomainNote;
  readonly wrap: number;
  readonly wrapsOddLengths: boolean;
  readonly transport: MemberNote;
  /** Number of records of the backup. */
  readonly count: number;
  readonly time: number;
}

/** Returns a group record whose only member is the backup's token, for wrapping keys for that token. */
export function asOnlyMember(record: GroupRecord, transport: MemberNote, domain: DomainNote): GroupRecord {
  return { ...record, members: [transport], domain };
}

const APPLICATION = 'pkcs11-ha backup';
const HEAD_APPLICATION = 'pkcs11-ha backup head';
const HEAD_LABEL = `${RESERVED_LABEL}backup head`;
const RECORD_LABEL = `${RESERVED_LABEL}backup `;

/** Maximum size of a record's CKA_VALUE (bytes): the record of a public object holds the object's value. */
const MOST_VALUE = 16 * 1_048_576;

/** Template that finds the records of all backups on a token, also of unfinished ones. */
export const backupTemplate: readonly Attribute[] = [
  ...recordAttributes,
  { type: CKA.application, value: Buffer.from(APPLICATION) },
];

/** Template that finds the heads. */
export const headTemplate: readonly Attribute[] = [
  ...recordAttributes,
  { type: CKA.application, value: Buffer.from(HEAD_APPLICATION) },
];

/** Returns the id of the backup that a record belongs to, from the record's label. */
export function runOf(label: Uint8Array): string {
  const [run = ''] = Buffer.from(label).toString('latin1').slice(RECORD_LABEL.length).split(' ');
  return run;
}

/**
 * Returns the template that creates a record as a session object, which becomes a token object once it is complete.
 * Refuses a record that no process would read again, since it is over a limit.
 */
export function backupRecordTemplate(run: string, record: BackupRecord | BackupHead): readonly Attribute[] {
  const isHead = record.kind === 'backup head';
  const label = isHead ? HEAD_LABEL : `${RECORD_LABEL}${run} ${record.note.handle.toString(16).padStart(12, '0')}`;
  const value = Buffer.from(JSON.stringify({ version: FORMAT, ...record }));
  if (typeof readBackupRecord(value) !== 'object')
    refuse(CKR.attributeValueInvalid, `an object is too large for a backup, or has too many attributes`);
  return [
    dataClass,
    { type: CKA.token, value: Uint8Array.of(0) },
    { type: CKA.private, value: Uint8Array.of(1) },
    { type: CKA.label, value: Buffer.from(label) },
    { type: CKA.application, value: Buffer.from(isHead ? HEAD_APPLICATION : APPLICATION) },
    { type: CKA.value, value },
  ];
}

const recordForm = fields<BackupRecord>({
  kind: oneOf('backup'),
  note: objectNote,
  template: attributes,
  answers: attributes,
  wrapped: optional(wrappedKey),
  sealed: flag,
  alias: flag,
});

const headForm = fields<BackupHead>({
  kind: oneOf('backup head'),
  group: anyText,
  label: anyText,
  salt: digest,
  domain: domainNote,
  wrap: count,
  wrapsOddLengths: flag,
  transport: memberNote,
  count,
  time,
});

const schema: ReadonlyMap<string, Check<BackupRecord | BackupHead>> = new Map<string, Check<BackupRecord | BackupHead>>(
  [
    ['backup', recordForm],
    ['backup head', headForm],
  ],
);

/** Reads a record of a backup from its CKA_VALUE. */
export function readBackupRecord(value: Uint8Array): ReadRecord<BackupRecord | BackupHead> {
  return readAs(schema, value, MOST_VALUE);
}
