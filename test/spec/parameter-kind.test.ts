import { describe, expect, test } from '@jest/globals';
import { bindObjects, handlesIn, takeReturned } from '../../src/spec/mechanism.js';
import type { Field } from '../../src/spec/parameter-field.js';
import { fieldsOfKind } from '../../src/spec/parameter-kind.js';

const bytes = (...values: readonly number[]): Buffer => Buffer.from(values);

/** Returns a structure's fields in short: numbers, `*` pointers, `=` bytes inside, `~` output pointers, `@` handles. */
function layoutOf(fields: readonly Field[] | undefined): string {
  const shown = (fields ?? []).map((field) => {
    switch (field.kind) {
      case 'number':
        return String(field.value);
      case 'flag':
        return field.value ? 'yes' : 'no';
      case 'object':
        return `@${Buffer.from(field.handle).readUInt32LE()}`;
      default:
        return `${{ inlined: '=', pointed: '*', returned: '~' }[field.kind]}${Buffer.from(field.value).toString('hex')}`;
    }
  });
  return shown.join(' ');
}

const handle = bytes(7, 0, 0, 0, 0, 0, 0, 0);
const second = { privateDataLen: 2, privateData: handle, publicData2: bytes(9) };

describe('structures of PKCS#11 in pkcs11js', () => {
  test.each([
    [1, { iv: Buffer.alloc(16, 1), data: bytes(2) }, `=${'01'.repeat(16)} *02 1`],
    [2, { dataLen: 5, nonce: bytes(1), aad: bytes(2, 3), macLen: 8 }, '5 *01 1 *0203 2 8'],
    [3, { iv: bytes(1, 2), tagBits: 96 }, '~0102 2 16 * 0 96'],
    [4, { hashAlg: 1, mgf: 2, source: 3 }, '1 2 3 * 0'],
    [5, { hashAlg: 1, mgf: 2, saltLen: 3 }, '1 2 3'],
    [6, { kdf: 1, publicData: bytes(4), sharedData: bytes(5, 6) }, '1 2 *0506 1 *04'],
    [7, { iv: bytes(1), ivBits: 8, aad: bytes(2), tagBits: 128 }, '~01 1 8 *02 1 128'],
    [8, { kdf: 1, publicData: bytes(4), ...second }, '1 0 * 1 *04 2 @7 1 *09'],
    [9, { kdf: 1, publicData: bytes(4), ...second, publicKey: handle }, '1 0 * 1 *04 2 @7 1 *09 @7'],
    [10, { kdf: 1, publicData: bytes(4), otherInfo: bytes(5) }, '1 1 *05 1 *04'],
    [11, { kdf: 1, publicData: bytes(4), ...second }, '1 0 * 1 *04 2 @7 1 *09'],
    [12, { kdf: 1, publicData: bytes(4), ...second, publicKey: handle }, '1 0 * 1 *04 2 @7 1 *09 @7'],
    [13, { isSender: true, randomA: bytes(1), randomB: bytes(2), publicData: bytes(3) }, '=01 1 *01 *02 1 *03'],
    [15, { effectiveBits: 64, iv: Buffer.alloc(8) }, `64 =${'00'.repeat(8)}`],
    [16, { effectiveBits: 64, macLength: 4 }, '64 4'],
    [17, { wordSize: 4, rounds: 12 }, '4 12'],
    [18, { wordSize: 4, rounds: 12, iv: bytes(1) }, '4 12 *01 1'],
    [19, { wordSize: 4, rounds: 12, macLength: 4 }, '4 12 4'],
    [20, { iv: Buffer.alloc(8), data: bytes(1) }, `=${'00'.repeat(8)} *01 1`],
    [
      23,
      { initVector: Buffer.alloc(8, 1), password: bytes(2), salt: bytes(3, 4), iteration: 5 },
      `~${'01'.repeat(8)} *02 1 *0304 2 5`,
    ],
    [24, { bc: 3, x: bytes(4) }, '=03 *04 1'],
    [25, { iv: bytes(1), ivBits: 8 }, '~01 1 8 * 0 0'],
    [26, { dataLength: 5, nonce: bytes(1) }, '5 *01 1 * 0 0'],
    [27, { kdf: 1, publicData: bytes(2), ukm: bytes(3, 4) }, '1 *02 1 *0304 2'],
    [28, { wrapOID: bytes(2), key: handle }, '*02 1 * 0 @7'],
  ] as const)('of kind %i', (kind, parameter, layout) => {
    expect(layoutOf(fieldsOfKind(0, kind, { type: kind, ...parameter }))).toBe(layout);
  });

  test('have the layout of SKIPJACK, with a length that is a sum', () => {
    const names = ['password', 'publicData', 'primeP', 'baseG', 'subprimeQ', 'randomA'];
    const wrap = Object.fromEntries(names.map((name, at) => [name, Buffer.alloc(at + 1, at)]));
    expect(layoutOf(fieldsOfKind(0, 21, wrap))).toBe('1 *00 2 *0101 7 5 6 *050505050505 *020202 *03030303 *0404040404');
  });

  test('are all listed here', () => {
    for (const kind of [0, 14, 29, 999]) expect(fieldsOfKind(0, kind, {})).toBeUndefined();
  });
});

describe('parameters of an application', () => {
  test('are copied, and get the bytes that a token writes', () => {
    const iv = bytes(1, 2, 3);
    const fields = fieldsOfKind(0, 25, { iv, ivBits: 24 }) ?? [];
    iv.fill(0);
    expect(layoutOf(fields)).toBe('~010203 3 24 * 0 0');
    takeReturned({ type: 0, fields }, [bytes(1, 2, 3)]);
    expect(iv).toEqual(bytes(0, 0, 0));
    takeReturned({ type: 0, fields }, [bytes(7, 8, 9)]);
    expect(iv).toEqual(bytes(7, 8, 9));
  });

  test('get the handles of the member that is asked', () => {
    const mechanism = { type: 1, fields: fieldsOfKind(0, 28, { wrapOID: bytes(2), key: handle }) ?? [] };
    expect(handlesIn(mechanism)).toEqual([new Uint8Array(handle)]);
    expect(layoutOf(bindObjects(mechanism, [bytes(42, 0, 0, 0, 0, 0, 0, 0)]).fields)).toBe('*02 1 * 0 42');
  });

  test('may be views of any kind, and numbers are truncated as in pkcs11js', () => {
    const view = new DataView(new Uint8Array([9, 1, 2, 9]).buffer, 1, 2);
    expect(layoutOf(fieldsOfKind(0, 7, { iv: view, ivBits: 16.9 }))).toBe('~0102 2 16 * 0 0');
  });
});

describe('a number that is no size', () => {
  test.each([-1, -2, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e30])(
    '%d is the largest number, which tokens refuse',
    (value) => {
      const largest = 2n ** 64n - 1n;
      const saltOf = { type: 5, hashAlg: 1, mgf: 2, saltLen: value };
      expect(fieldsOfKind(0, 5, saltOf)?.at(-1)).toEqual({ kind: 'number', value: largest });
      const tagOf = { type: 3, iv: bytes(1), tagBits: value };
      expect(fieldsOfKind(0, 3, tagOf)?.at(-1)).toEqual({ kind: 'number', value: largest });
    },
  );
});
