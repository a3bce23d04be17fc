import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readBackupRecord } from '../../../src/core/backup/backup-record.js';
import { recordsIn } from '../../../src/core/records/ledger.js';
import type { GroupRecord } from '../../../src/core/records/record.js';
import { readRecord } from '../../../src/core/records/record-schema.js';
import { groupwideTemplate, recordTemplate } from '../../../src/core/records/record-template.js';
import { ck } from '../../../src/spec/constants.js';
import { trust } from '../../support/authority.js';
import {
  alias,
  backup,
  done,
  group,
  head,
  intent,
  journal,
  key,
  note,
  pin,
  records,
} from '../../support/sample-records.js';

const bytesOf = (value: unknown): Buffer => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));
/** Returns the value of a record, in the version of its format. */
const written = (record: object, version: unknown = 1): Buffer => bytesOf({ version, ...record });
const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);

describe('the schema of records', () => {
  test.each(records.map((record) => [record.kind, record] as const))(
    '%s: accepts the form of both formats',
    (_, record) => {
      for (const version of [1, 2]) expect(readRecord(written(record, version))).toEqual(record);
      const template = recordTemplate(record, true).find(({ type }) => type === ck('CKA_VALUE'))?.value;
      expect(readRecord(template ?? Buffer.alloc(0))).toEqual(record);
    },
  );

  test.each([backup, { ...backup, wrapped: undefined }, head])('$kind: accepts the form', (record) => {
    expect(readBackupRecord(written(record, 2))).toEqual(record);
    expect(readRecord(written(record, 2))).toBeUndefined();
  });

  test.each([null, '', '04', 'ffffffffffffffff'])('refuses the note of an object of the class %p', (objectClass) => {
    const described = [objectClass, ...note.described.slice(1)];
    for (const record of [
      { ...key, note: { ...note, described } },
      { ...journal, notes: [{ ...note, described }] },
    ])
      expect(readRecord(written(record))).toBe('invalid');
  });

  test('leaves out unknown fields, in the record and in its parts', () => {
    const later = { ...key, hue: 'red', note: { ...note, hue: 1, proofs: { ...note.proofs, scent: '00' } } };
    expect(readRecord(written(later))).toEqual(key);
  });

  test('tells a later format, an unknown kind and an empty value apart', () => {
    expect(readRecord(written({ kind: 'anything' }, 3))).toBe('newer');
    expect(readRecord(written({ kind: 'anything' }, 2))).toBeUndefined();
    expect(readRecord(Buffer.alloc(0))).toBeUndefined();
    expect(readBackupRecord(written({ kind: 'anything' }, 3))).toBe('newer');
  });

  test.each<readonly [string, unknown]>([
    ['version 0', { ...alias, version: 0 }],
    ['version 1.5', { ...alias, version: 1.5 }],
    ['version 1e300', { ...alias, version: 1e300 }],
    ['version as a text', { ...alias, version: '1' }],
    ['no kind', { version: 1 }],
    ['kind of a prototype', { ...alias, kind: ['alias'] }],
    ['a list', []],
    ['null', null],
    ['a text', 'text'],
    ['truncated JSON', JSON.stringify({ version: 1, ...key }).slice(0, -5)],
    ['deep nesting', nested(200_000)],
    ['deep nesting in a field', `{"version":1,"kind":"done","id":"i","serial":"A","deeds":${nested(200_000)}}`],
    ['bytes that are no text', Buffer.from([0xff, 0xfe, 0]).toString('latin1')],
    ['handle 0', { ...alias, handle: 0 }],
    ['handle over 48 bits', { ...alias, handle: 2 ** 48 }],
    ['handle with a fraction', { ...alias, handle: 1.5 }],
    ['handle as a text', { ...alias, handle: '1' }],
    ['time 1e300', { ...alias, time: 1e300 }],
    ['time that could not grow', { ...alias, time: 2 ** 60 }],
    ['time below 0', { ...alias, time: -1 }],
    ['time null, as JSON makes of Infinity', { ...alias, time: null }],
    ['hex in upper case', { ...alias, identity: 'AB' }],
    ['hex of odd length', { ...alias, identity: 'abc' }],
    ['hex with other characters', { ...alias, identity: '0g' }],
    ['hex in other digits', { ...alias, identity: '٠٠' }],
    ['long hex in upper case', { ...alias, identity: 'AB'.repeat(500) }],
    ['hex over the limit', { ...alias, identity: '00'.repeat(4096) }],
    ['text over the limit', { ...alias, use: 'x'.repeat(4097) }],
    ['proofs as a list', { ...alias, proofs: [] }],
    ['proof that is no hex', { ...alias, proofs: { digest: 1 } }],
    ['missing field', { ...alias, use: undefined }],
    ['65 members', { ...group, members: Array.from({ length: 65 }, () => group.members[0]) }],
    ['members as an object', { ...group, members: { length: 1, 0: group.members[0] } }],
    ['later group format in an old version', { ...group, format: 3 }],
    ['pending as a list', { ...group, pending: ['00'] }],
    ['pending with an object', { ...group, pending: { A: { toString: '00' } } }],
    ['revision below 0', { ...group, revision: -1 }],
    ['wrapsOddLengths as a number', { ...group, wrapsOddLengths: 1 }],
    ['9 notes', { ...intent, notes: Array.from({ length: 9 }, () => note) }],
    ['129 attributes', { ...intent, changes: Array.from({ length: 129 }, () => [3, '']) }],
    ['attribute of three parts', { ...intent, changes: [[3, '', '']] }],
    ['attribute type below 0', { ...intent, changes: [[-1, '']] }],
    ['unknown change', { ...intent, what: 'constructor' }],
    ['129 serials', { ...journal, missed: Array.from({ length: 129 }, () => 'A') }],
    ['65 described values', { ...intent, notes: [{ ...note, described: Array.from({ length: 65 }, () => null) }] }],
    ['unknown state', { ...pin, state: '__proto__' }],
    ['deeds that are no texts', { ...done, deeds: [1] }],
    ['huge array', { ...done, deeds: Array.from({ length: 70_000 }, () => '') }],
    ['sealed form without a key', { ...key, sealed: {} }],
    ['sealed form with half a key', { ...key, sealed: { domain: '00' } }],
    ['note of a list', { ...key, note: [] }],
    ['value over 1 MiB', { ...key, template: [[0, '00'.repeat(600_000)]] }],
  ])('does not accept: %s', (_, value) => {
    const whole =
      typeof value === 'object' && value !== null && !Array.isArray(value) ? { version: 1, ...value } : value;
    expect(readRecord(bytesOf(whole))).toBe('invalid');
  });

  test('names of prototypes are names like others, and find nothing else', () => {
    const pending = '{"__proto__":"00","constructor":"01","toString":"02"}';
    const value = JSON.stringify({ version: 1, ...group, pending: 0 }).replace('"pending":0', `"pending":${pending}`);
    const record = readRecord(Buffer.from(value)) as GroupRecord;
    expect(Object.entries(record.pending ?? {})).toEqual([
      ['__proto__', '00'],
      ['constructor', '01'],
      ['toString', '02'],
    ]);
    expect('constructor' in ((readRecord(written(group)) as GroupRecord).pending ?? {})).toBe(false);
    const polluting = JSON.stringify({ version: 1, ...alias }).replace(
      '{',
      '{"__proto__":{"handle":7,"polluted":true},',
    );
    expect(readRecord(Buffer.from(polluting))).toEqual(alias);
    expect(Object.hasOwn(Object.prototype, 'polluted')).toBe(false);
  });

  test('a record over a limit is not written', () => {
    const changes = [[17, '00'.repeat(600_000)]] as const;
    expect(() => recordTemplate({ ...intent, changes }, true)).toThrow(/CKR_ATTRIBUTE_VALUE_INVALID/u);
    expect(() => recordTemplate({ ...alias, handle: 0 }, true)).toThrow(/CKR_ATTRIBUTE_VALUE_INVALID/u);
  });
});

describe('values on a token', () => {
  const found = (value: Uint8Array) => ({
    handle: new Uint8Array(8),
    attributes: [{ presence: 'present' as const, value: Buffer.from(value) }],
  });

  test('are counted if they do not have the form of records; all others are read', () => {
    const values = [
      written(group),
      written({ ...alias, time: 1e300 }),
      bytesOf('{"ver'),
      Buffer.alloc(0),
      written(done),
    ];
    const read = recordsIn(trust, values.map(found), [found(written(pin)), found(written({ ...pin, time: -1 }))]);
    expect(read).toMatchObject({ group: { record: group }, done: [{ record: done }], aliases: [], invalid: 2 });
    expect(read.pins).toEqual([pin]);
  });

  test('are a PIN change if they stand among the PIN notes, and nothing else there counts', () => {
    const read = recordsIn(trust, [found(written(pin))], [found(written(group)), found(written(journal))]);
    expect(read).toMatchObject({ group: undefined, changes: [], pins: [], invalid: 0 });
  });

  test('[Rule 18] only private token objects are searched for', () => {
    const asked = new Map(groupwideTemplate.map(({ type, value }) => [type, Buffer.from(value).toString('hex')]));
    expect([asked.get(ck('CKA_TOKEN')), asked.get(ck('CKA_PRIVATE'))]).toEqual(['01', '01']);
  });
});

/** Returns the value with the part at a path replaced. */
function replaced(value: unknown, path: readonly number[], by: unknown): unknown {
  const [first = 0, ...rest] = path;
  if (typeof value !== 'object' || value === null) return by;
  const names = Object.keys(value);
  const name = names[first % Math.max(1, names.length)];
  if (name === undefined) return by;
  const part = (value as Record<string, unknown>)[name];
  const next = rest.length === 0 ? by : replaced(part, rest, by);
  return Array.isArray(value)
    ? value.map((each, index) => (String(index) === name ? next : each))
    : Object.fromEntries(Object.entries(value).map(([each, old]) => [each, each === name ? next : old]));
}

describe('[Rule 18] random changes of valid records', () => {
  const hostile = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom<unknown>(undefined, -0, 1e300, 2 ** 53, '__proto__', 'constructor', '00', {}, [], null),
    fc.double(),
  );
  const readings = [
    { read: readRecord, all: records as readonly object[] },
    { read: readBackupRecord, all: [backup, head] as readonly object[] },
  ];

  test.each(readings)('never throw, and what is accepted survives a round trip (%#)', ({ read, all }) => {
    let accepted = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(...all),
        fc.array(fc.nat(30), { minLength: 1, maxLength: 5 }),
        hostile,
        (record, path, by) => {
          const result = read(bytesOf(replaced({ version: 1, ...record }, path, by) ?? null));
          if (typeof result !== 'object') return;
          accepted += 1;
          expect(read(written(result))).toEqual(result);
        },
      ),
      { numRuns: 3000 },
    );
    expect(accepted).toBeGreaterThan(0);
  });

  test.each(readings)('of single bytes never throw either (%#)', ({ read, all }) => {
    fc.assert(
      fc.property(fc.constantFrom(...all), fc.nat(), fc.nat(255), fc.boolean(), (record, at, byte, cuts) => {
        const value = written(record);
        value[at % value.length] = byte;
        const result = read(cuts ? value.subarray(0, at % value.length) : value);
        if (typeof result === 'object') expect(read(written(result))).toEqual(result);
      }),
      { numRuns: 3000 },
    );
  });
});
