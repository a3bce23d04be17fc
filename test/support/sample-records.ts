// Records of every kind with all their fields, for tests of their schema.
import type { BackupHead, BackupRecord } from '../../src/core/backup/backup-record.js';
import type { KeyRecord, ObjectNote } from '../../src/core/objects/key-note.js';
import type {
  AliasRecord,
  AnyRecord,
  ChangeRecord,
  DoneRecord,
  GroupRecord,
  OutcomeRecord,
  PinNote,
} from '../../src/core/records/record.js';

export const note: ObjectNote = {
  handle: 2 ** 48 - 1,
  ordinal: 0,
  described: ['0400000000000000', '1f00000000000000', null, '', '6b6579'],
  valueDigest: '',
  use: null,
  proofs: { digest: '00ff', checkValue: 'abcdef' },
};
export const group: GroupRecord = {
  kind: 'group',
  format: 2,
  id: 'abcd',
  label: 'prod',
  revision: 3,
  salt: '00',
  members: [{ serial: 'A', name: 'a', modulus: 'ff', publicExponent: '010001', transport: '01' }],
  domain: { id: '00', proofs: { mac: '00' } },
  retired: [{ id: '01', proofs: {}, until: 5 }],
  gone: ['02'],
  pending: { A: '00' },
  filling: [],
  drained: ['A'],
  time: 1.8e15,
  writer: 'writer',
  wrap: 0x210a,
  wrapsOddLengths: true,
};
export const intent: ChangeRecord = {
  kind: 'intent',
  operation: 'o',
  what: 'set',
  notes: [note],
  changes: [[3, '6b']],
  former: [[0x80000001, '']],
  alone: false,
  before: 1,
  writer: 'writer',
  time: 0.5,
  expires: 2e12,
  missed: [],
};
export const journal: ChangeRecord = { ...intent, kind: 'journal', undoes: true, missed: ['A'] };
export const done: DoneRecord = { kind: 'done', id: 'i', serial: 'A', deeds: ['o', 'o undone'] };
export const alias: AliasRecord = { kind: 'alias', handle: 1, identity: '00', proofs: {}, use: 'sign', time: 1 };
export const pin: PinNote = {
  kind: 'pin',
  operation: 'o',
  state: 'pending',
  participants: ['A'],
  missed: [],
  writer: 'writer',
  time: 1,
  expires: 2,
};
export const key: KeyRecord = {
  kind: 'key',
  note,
  identity: '00',
  template: [[0, '0400000000000000']],
  answers: [],
  sealed: { domain: '00', blob: 'ff' },
  operation: 'o',
  writer: 'writer',
  time: 1,
};
const outcome: OutcomeRecord = { kind: 'outcome', operation: 'o', isDone: true, time: 1 };
const keyOfTransports: KeyRecord = { ...key, sealed: { transports: { A: 'ff' } } };
export const records: readonly AnyRecord[] = [group, intent, journal, done, alias, pin, key, keyOfTransports, outcome];

export const head: BackupHead = {
  kind: 'backup head',
  group: 'abcd',
  label: 'prod',
  salt: '00',
  domain: { id: '00', proofs: {} },
  wrap: 1,
  wrapsOddLengths: false,
  transport: { serial: 'V', name: 'vault', modulus: 'ff', publicExponent: '03', transport: '02' },
  count: 1,
  time: 1,
};
export const backup: BackupRecord = {
  kind: 'backup',
  note,
  template: [],
  answers: [],
  wrapped: { transports: { V: '00' } },
  sealed: true,
  alias: false,
};
