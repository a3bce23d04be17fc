import { createHash } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import type { Port } from '../../../src/core/base/port.js';
import { Connection } from '../../../src/core/group/connection.js';
import { aliasIn } from '../../../src/core/group/record-learning.js';
import { describedTypes, describe as describeObject, identityOf } from '../../../src/core/objects/identity.js';
import type { ProofKind } from '../../../src/core/objects/key-note.js';
import { noteObject, objectOf } from '../../../src/core/objects/note.js';
import { areOfOneKey } from '../../../src/core/objects/object.js';
import { ObjectTable } from '../../../src/core/objects/object-table.js';
import { recordsIn } from '../../../src/core/records/ledger.js';
import type { AliasRecord } from '../../../src/core/records/record.js';
import { readRecord } from '../../../src/core/records/record-schema.js';
import { recordTemplate } from '../../../src/core/records/record-template.js';
import { ulongBytes } from '../../../src/spec/attribute.js';
import type { ReadAttribute } from '../../../src/spec/calls.js';
import { CKK, CKO } from '../../../src/spec/codes.js';
import { ck } from '../../../src/spec/constants.js';
import { trust } from '../../support/authority.js';

const sha256 = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();
const values = (label: string): Map<number, Uint8Array> =>
  new Map([
    [ck('CKA_CLASS'), ulongBytes(CKO.secretKey)],
    [ck('CKA_KEY_TYPE'), ulongBytes(CKK.aes)],
    [ck('CKA_LABEL'), Buffer.from(label)],
    [ck('CKA_TOKEN'), Uint8Array.of(1)],
  ]);
const read = (label: string): ReadAttribute[] =>
  describedTypes.map((type) => {
    const value = values(label).get(type);
    return value === undefined
      ? { presence: 'invalid', value: Buffer.alloc(0) }
      : { presence: 'present', value: Buffer.from(value) };
  });
const description = (label: string) => describeObject(read(label));
const identity = (label: string): Uint8Array => identityOf(description(label));
const digestOf = (bytes: Uint8Array): string => Buffer.from(sha256(bytes)).toString('hex');
const proofs = (kinds: Partial<Record<ProofKind, string>>): Map<ProofKind, Uint8Array> =>
  new Map(Object.entries(kinds).map(([kind, proof]) => [kind as ProofKind, Buffer.from(proof)]));
const alias = (handle: number, label: string, time: number): AliasRecord => ({
  kind: 'alias',
  handle,
  identity: digestOf(identity(label)),
  proofs: {},
  use: null,
  time,
});

describe('records', () => {
  test('are read as they were written; later formats and other objects are told apart', () => {
    const record = alias(7, 'x', 1);
    const value = recordTemplate(record, true).find(({ type }) => type === ck('CKA_VALUE'))?.value ?? Buffer.alloc(0);
    expect(readRecord(value)).toMatchObject(record);
    expect(readRecord(Buffer.from(JSON.stringify({ version: 3, kind: 'alias' })))).toBe('newer');
    for (const other of ['', '{"version":1,"kind":"later"}']) expect(readRecord(Buffer.from(other))).toBeUndefined();
    for (const other of ['text', '{}', '[1]', '{"version":1}']) expect(readRecord(Buffer.from(other))).toBe('invalid');
    const found = [value, Buffer.from('{"version":9,"kind":"x"}'), Buffer.from('no record')].map((bytes) => ({
      handle: new Uint8Array(8),
      attributes: [{ presence: 'present' as const, value: Buffer.from(bytes) }],
    }));
    expect(recordsIn(trust, found)).toMatchObject({ newer: true, aliases: [{ record }], changes: [], invalid: 1 });
  });

  test('name an object by handle, identity and proofs', () => {
    const table = new ObjectTable(sha256);
    const object = table.intern(identity('key'), description('key'));
    object.described = read('key').map(({ presence, value }) => (presence === 'present' ? value : undefined));
    object.reference.set('digest', Buffer.from('proof'));
    const noted = objectOf(noteObject(object));
    expect([noted.handle, noted.identity]).toEqual([object.handle, object.identity]);
    expect(noted.reference).toEqual(new Map([['digest', Uint8Array.from(Buffer.from('proof'))]]));
  });
});

describe('aliases', () => {
  test('[Rule 11] of several aliases of one handle the newest counts, in whatever order they are read', () => {
    for (const order of [
      [1, 2, 3],
      [3, 2, 1],
      [2, 3, 1],
    ]) {
      const table = new ObjectTable(sha256);
      for (const time of order) table.addAlias(aliasIn(alias(7, `name ${time}`, time)));
      table.addAlias(aliasIn(alias(8, 'other', 1)));
      expect(table.intern(identity('name 3'), description('name 3')).handle).toBe(7);
      for (const old of ['name 1', 'name 2']) expect(table.intern(identity(old), description(old)).handle).not.toBe(7);
    }
  });

  test('[Rule 11] a renamed object keeps its handle, and another object can take its old name', () => {
    const table = new ObjectTable(sha256);
    const first = table.intern(identity('a'), description('a'));
    table.rename(first, identity('b'), description('b'));
    const second = table.intern(identity('a'), description('a'));
    expect(second).not.toBe(first);
    expect(second.handle).not.toBe(first.handle);
    expect(table.intern(identity('b'), description('b'))).toBe(first);
    table.remove(first);
    expect(table.get(first.handle)).toBeUndefined();
  });
});

describe('twins', () => {
  test('are of one key if the proofs that both have are equal', () => {
    expect(areOfOneKey(proofs({ digest: 'a', mac: 'b' }), proofs({ digest: 'a' }))).toBe(true);
    expect(areOfOneKey(proofs({ digest: 'a', mac: 'b' }), proofs({ digest: 'a', mac: 'c' }))).toBe(false);
    expect(areOfOneKey(proofs({ digest: 'a' }), proofs({ mac: 'b' }))).toBe(false);
    expect(areOfOneKey(proofs({ checkValue: 'a' }), proofs({}))).toBe(true);
  });

  test('get the same handles in whatever order they are met', () => {
    const handles = [
      ['x', 'y'],
      ['y', 'x'],
    ].map((order) => {
      const table = new ObjectTable(sha256);
      const met = order.map((key) => table.internTwin(identity('t'), proofs({ digest: key }), 0, description('t')));
      return met.map(({ handle }) => handle).sort();
    });
    expect(handles[0]).toEqual(handles[1]);
  });
});

describe('[Rule 9] the watch over a host', () => {
  function connectionWith(begun: readonly { since: number; longWrite: boolean }[], now: number): Connection {
    const port = { now: () => now, alarm: () => ({ ringAt: () => {}, stop: () => {} }) } as unknown as Port;
    const connection = new Connection(port, {
      timeoutOf: () => 100,
      beginBy: ({ deadline }) => deadline,
      took: () => {},
    });
    connection.attachHost({
      pid: 1,
      withheld: [],
      send: () => true,
      begun: () => begun.map((entry, index) => ({ job: index + 1, ...entry })),
      leave: () => {},
      kill: () => {},
      close: () => {},
    });
    for (const { longWrite } of begun)
      connection.submit({ steps: [], longWrite: longWrite }, 'kind', Number.POSITIVE_INFINITY);
    return connection;
  }
  const limits = { hangAfter: 1000, writeHangAfter: 5000 };

  test.each([
    ['a call that is out longer than hangAfter: the host hangs', [{ since: 0, longWrite: false }], 1500, true],
    ['a write within its own longer limit: the host does not hang', [{ since: 0, longWrite: true }], 4500, false],
    ['a write over its own limit: the host hangs', [{ since: 0, longWrite: true }], 5500, true],
    [
      'a late call beside a write within its limit: the host does not hang',
      [
        { since: 0, longWrite: false },
        { since: 1000, longWrite: true },
      ],
      4000,
      false,
    ],
  ])('%s', (_what, begun, after, isHung) => {
    const connection = connectionWith(begun, 0);
    expect(connection.isHung(after, limits)).toBe(isHung);
  });
});
