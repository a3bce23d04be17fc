import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import {
  generateAdministrationKey,
  SigningKey,
  verifyStatement,
} from '../../../src/runtime/trust/administration-key.js';
import { KeyStore } from '../../../src/runtime/trust/key-store.js';

let base: string;
let store: KeyStore;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'pkcs11-ha-store-'));
  store = new KeyStore(base);
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

test('[Rule 19] keeps the key of a group until it is removed; only this user can read the private half', () => {
  const pair = generateAdministrationKey();
  expect(store.publicKeysOf('ab12')).toBeUndefined();
  store.keep('ab12', pair);
  expect(store.publicKeysOf('ab12')).toEqual([pair.publicKey]);
  expect(store.publicKeysOf('ab13')).toBeUndefined();
  expect([statSync(store.folder).mode & 0o777, statSync(store.privatePath('ab12')).mode & 0o777]).toEqual([
    0o700, 0o600,
  ]);
  expect(() => store.keep('ab12', generateAdministrationKey())).toThrow(/EEXIST/u);
  store.remove('ab12');
  expect(readdirSync(store.folder)).toEqual([]);
});

test('[Rule 19] a key that others can write counts for no record', () => {
  store.keep('ab12', generateAdministrationKey());
  chmodSync(join(store.folder, 'ab12.pub'), 0o666);
  expect(store.publicKeysOf('ab12')).toEqual([]);
});

test('the id of a group names no other file', () => {
  expect([store.publicKeysOf('../ab12'), store.hasPrivate('../ab12')]).toEqual([undefined, false]);
});

test('[Rule 19] a signature counts for its statement and key only', () => {
  const { publicKey, privateKey } = generateAdministrationKey();
  const key = new SigningKey(Buffer.from(privateKey));
  const statement = Buffer.from('statement');
  const signature = key.sign(statement);
  expect(key.publicKey).toBe(publicKey);
  expect(verifyStatement(publicKey, statement, signature)).toBe(true);
  expect(verifyStatement(publicKey, Buffer.from('another'), signature)).toBe(false);
  expect(verifyStatement(generateAdministrationKey().publicKey, statement, signature)).toBe(false);
  expect(verifyStatement(publicKey, statement, '')).toBe(false);
  expect(verifyStatement('', statement, signature)).toBe(false);
  expect(() => new SigningKey(Buffer.from(privateKey.slice(1)))).toThrow(
    /^expected a private key of 64 hexadecimal digits$/u,
  );
});
