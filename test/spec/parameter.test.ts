import { runInNewContext } from 'node:vm';
import { describe, expect, test } from '@jest/globals';
import { encodeMechanism } from '../../src/spec/mechanism.js';
import type { Field } from '../../src/spec/parameter-field.js';

const iv = Buffer.alloc(12, 5);
const block = Buffer.alloc(16, 6);

const refusal = (input: unknown): string => {
  try {
    encodeMechanism('mechanism', input);
    return 'taken';
  } catch (error) {
    const { name, message } = error as Error;
    return `${name} ${message}`;
  }
};

describe('a parameter that would weaken a key is refused', () => {
  test.each([
    ['AES_GCM', undefined, 'mechanism.params: expected the parameter of CKM_AES_GCM, got undefined'],
    ['AES_CTR', undefined, 'mechanism.params: expected the parameter of CKM_AES_CTR, got undefined'],
    ['AES_CCM', null, 'mechanism.params: expected the parameter of CKM_AES_CCM, got null'],
    ['AES_GCM', { tagBits: 128 }, 'mechanism.params.iv: expected a Buffer of at least 1 byte, got undefined'],
    ['AES_GCM', { iv: null, tagBits: 128 }, 'mechanism.params.iv: expected a Buffer of at least 1 byte, got undefined'],
    ['AES_GCM', { iv }, 'mechanism.params.tagBits: expected an integer from 32 to 128, got undefined'],
    ['AES_GCM', { iv, tagBits: -1 }, 'mechanism.params.tagBits: expected an integer from 32 to 128, got a number'],
    ['AES_CTR', { iv: block }, 'mechanism.params.counter: expected a Buffer of 16 bytes, got undefined'],
    ['AES_CBC', {}, 'mechanism.params.iv: expected a Buffer of 8 to 16 bytes, got undefined'],
    ['RSA_PKCS_OAEP', {}, 'mechanism.params.hash: expected a number or a name after CKM_, got undefined'],
    [
      'SHA256_RSA_PKCS_PSS',
      { hash: 'SHA256' },
      'mechanism.params.saltLen: expected an integer from 0 to 4294967295, got undefined',
    ],
    ['ECDH1_DERIVE', { publicData: iv }, 'mechanism.params.kdf: expected a number or a name after CKD_, got undefined'],
  ])('%s with %j', (name, params, message) => {
    expect(refusal({ name, params })).toBe(`InputError ${message}`);
  });

  test.each([
    [
      { iv, tagBits: 128, AAD: iv },
      'AAD',
      "one of iv, aad, additionalData, ivBits, tagBits, tagLength (not 'AAD'; did you mean 'aad'?)",
    ],
    [
      { iv, tagBits: 128, nonce: iv },
      'nonce',
      "one of iv, aad, additionalData, ivBits, tagBits, tagLength (not 'nonce')",
    ],
    [{ iv, tagBits: 128, aad: iv, additionalData: iv }, 'additionalData', 'only one of aad, additionalData'],
  ])('AES_GCM with a field that is not one of its own', (params, field, expected) => {
    expect(refusal({ name: 'AES_GCM', params })).toBe(
      `InputError mechanism.params.${field}: expected ${expected}, got a Buffer of 12 bytes`,
    );
  });

  test('a misspelled parameter', () => {
    expect(refusal({ name: 'AES_CBC_PAD', param: block })).toBe(
      "InputError mechanism.param: expected one of name, params (not 'param'; did you mean 'params'?), got a Buffer of 16 bytes",
    );
  });
});

describe('bytes of a parameter', () => {
  const foreign = (text: string): unknown => runInNewContext(text);
  test.each([
    ['an ArrayBuffer', new Uint8Array(block).buffer],
    ['a DataView', new DataView(new Uint8Array(block).buffer)],
    ['an array of another realm', foreign('new Uint8Array(16).fill(6)')],
    ['an ArrayBuffer of another realm', foreign('new Uint8Array(16).fill(6).buffer')],
  ])('may be %s', (_name, given) => {
    const fieldsOf = (input: unknown): readonly Field[] => encodeMechanism('mechanism', input).fields;
    const expected = block.toString('hex');
    for (const fields of [
      fieldsOf({ name: 'AES_CBC', params: given }),
      fieldsOf({ name: 'AES_CBC', params: { iv: given } }),
      fieldsOf(runInNewContext('({ name: "AES_CBC", params: given })', { given })),
    ])
      expect(
        fields.map((field) => (field.kind === 'inlined' ? Buffer.from(field.value).toString('hex') : field)),
      ).toEqual([expected]);
  });
});
