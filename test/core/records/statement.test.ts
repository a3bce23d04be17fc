import { expect, test } from '@jest/globals';
import type { GroupRecord } from '../../../src/core/records/record.js';
import { readRecord } from '../../../src/core/records/record-schema.js';
import { statementOf, stateTheSame } from '../../../src/core/records/statement.js';
import { group } from '../../support/sample-records.js';

const [member] = group.members;
if (member === undefined) throw new Error('the sample has no member');

const text = (record: GroupRecord): string => Buffer.from(statementOf(record)).toString();

test.each<[string, Partial<GroupRecord>]>([
  ['id', { id: 'ff' }],
  ['label', { label: 'other' }],
  ['sequence', { sequence: 7 }],
  ['salt', { salt: 'ff' }],
  ['members', { members: [...group.members, { ...member, serial: 'other' }] }],
  ['a transport key', { members: [{ ...member, modulus: 'ee' }] }],
  ['domain', { domain: { ...group.domain, id: 'ff' } }],
  ['proofs of the domain key', { domain: { ...group.domain, proofs: { digest: 'ff' } } }],
  ['retired', { retired: [{ id: 'ff', proofs: {} }] }],
  ['pending', { pending: { other: 'ff' } }],
  ['wrap', { wrap: group.wrap + 1 }],
  ['wrapsOddLengths', { wrapsOddLengths: !group.wrapsOddLengths }],
  ['scansKeyRecords', { scansKeyRecords: group.scansKeyRecords !== true }],
])('[Rule 19] the administration key signs the field %s', (_name, change) => {
  expect(text({ ...group, ...change })).not.toBe(text(group));
});

test.each<[string, Partial<GroupRecord>]>([
  ['filling', { filling: ['x'] }],
  ['drained', { drained: ['x'] }],
  ['gone', { gone: ['ff'] }],
  ['revision', { revision: group.revision + 1 }],
  ['time and writer', { time: 9, writer: 'other' }],
])('every process may change the field %s', (_name, change) => {
  expect(text({ ...group, ...change })).toBe(text(group));
  expect(stateTheSame({ ...group, ...change, sequence: 9 }, group)).toBe(true);
});

test('a record states the same when it was written and read again', () => {
  const record: GroupRecord = {
    ...group,
    sequence: 3,
    signature: { key: 'aa', value: 'bb' },
    epoch: 1,
    fence: 2,
    pending: { b: '02', a: '01' },
  };
  const read = readRecord(Buffer.from(JSON.stringify({ version: 2, unknown: 1, ...record })));
  expect(read).toMatchObject({ signature: { key: 'aa', value: 'bb' }, epoch: 1, fence: 2 });
  expect(text(read as GroupRecord)).toBe(text(record));
});
