import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import { CKA, CKO } from '../../spec/codes.js';
import { RESERVED_LABEL } from '../objects/identity.js';
import type { NotedAttribute, ObjectNote, Wrapped } from '../objects/key-note.js';
import { type DomainNote, FORMAT, type GroupRecord, type MemberNote, readRecord } from '../records/record.js';
import type { KeyLabels } from '../wrapping/domain-key.js';

/**
 * What a backup's own keys are called: not as those of a member, whose keys go when it leaves a group, and a token
 * that holds a backup may come and go like any other.
 */
export const backupLabels: KeyLabels = {
  domain: `${RESERVED_LABEL}backup key`,
  transport: `${RESERVED_LABEL}backup transport`,
};

/** One object of a group, as a backup holds it. */
export interface BackupRecord {
  readonly kind: 'backup';
  /** Which object; its proofs were taken with the salt that the head names. */
  readonly note: ObjectNote;
  /** All that it is made with again; of a public object its value too. */
  readonly template: readonly NotedAttribute[];
  /** What is answered instead of a token's own answer. */
  readonly answers: readonly NotedAttribute[];
  /** The key, wrapped so that only the backup's token can open it; undefined for a public object. */
  readonly wrapped: Wrapped | undefined;
  /** Whether the group kept a wrapped form of it. */
  readonly sealed: boolean;
  /** Whether a record gave it its handle. */
  readonly alias: boolean;
}

/** What makes a backup valid: it is written when all records are there. */
export interface BackupHead {
  readonly kind: 'backup head';
  /** The group's id and label. */
  readonly group: string;
  readonly label: string;
  /** What the proofs in the records were taken with. */
  readonly salt: string;
  /** The key that all keys are wrapped under; its id names the records too. */
  readonly domain: DomainNote;
  readonly wrap: number;
  readonly wrapsOddLengths: boolean;
  readonly transport: MemberNote;
  /** How many records belong to it. */
  readonly count: number;
  readonly time: number;
}

/** The group as the backup's token sees it: what is wrapped for its only member is wrapped for that token. */
export function beyond(record: GroupRecord, transport: MemberNote, domain: DomainNote): GroupRecord {
  return { ...record, members: [transport], domain };
}

const APPLICATION = 'pkcs11-ha backup';
const HEAD_APPLICATION = 'pkcs11-ha backup head';
const HEAD_LABEL = `${RESERVED_LABEL}backup head`;
const RECORD_LABEL = `${RESERVED_LABEL}backup `;

const dataClass: Attribute = { type: CKA.class, value: ulongBytes(CKO.data) };

/** Finds the records of all backups on a token, whole and half ones. */
export const backupTemplate: readonly Attribute[] = [
  dataClass,
  { type: CKA.application, value: Buffer.from(APPLICATION) },
];

/** Finds the heads. */
export const headTemplate: readonly Attribute[] = [
  dataClass,
  { type: CKA.application, value: Buffer.from(HEAD_APPLICATION) },
];

/** The backup that a record belongs to, by the record's label. */
export function runOf(label: Uint8Array): string {
  const [run = ''] = Buffer.from(label).toString('latin1').slice(RECORD_LABEL.length).split(' ');
  return run;
}

/** The template that creates a record; as a session object, which is kept when it is whole. */
export function backupRecordTemplate(run: string, record: BackupRecord | BackupHead): readonly Attribute[] {
  const isHead = record.kind === 'backup head';
  const label = isHead ? HEAD_LABEL : `${RECORD_LABEL}${run} ${record.note.handle.toString(16).padStart(12, '0')}`;
  return [
    dataClass,
    { type: CKA.token, value: Uint8Array.of(0) },
    { type: CKA.private, value: Uint8Array.of(1) },
    { type: CKA.label, value: Buffer.from(label) },
    { type: CKA.application, value: Buffer.from(isHead ? HEAD_APPLICATION : APPLICATION) },
    { type: CKA.value, value: Buffer.from(JSON.stringify({ version: FORMAT, ...record })) },
  ];
}

/** A record of a backup; `newer` for one of a later format, undefined for what is none. */
export function readBackupRecord(value: Uint8Array): BackupRecord | BackupHead | 'newer' | undefined {
  const record = readRecord(value) as BackupRecord | BackupHead | 'newer' | undefined;
  if (record === undefined || record === 'newer') return record;
  return record.kind === 'backup' || record.kind === 'backup head' ? record : undefined;
}
