import { describe, expect, test } from '@jest/globals';
import { ck } from '../../src/spec/constants.js';
import { checkChange, checkCreation, checkGeneration, checkMade, checkPairGeneration } from '../../src/spec/rules.js';
import { encodeTemplate } from '../../src/spec/template.js';

const template = (friendly: object) => encodeTemplate('t', friendly);
const vendorAttribute = { type: 0x8000_0001, value: Buffer.from('x') };
const secretKey = ck('CKO_SECRET_KEY');

describe('templates that PKCS#11 allows', () => {
  test.each([
    ['an AES key', checkGeneration(ck('CKM_AES_KEY_GEN'), template({ valueLen: 16, label: 'x', wrapTrusted: false }))],
    ['a key from a password', checkGeneration(ck('CKM_PKCS5_PBKD2'), template({ keyType: 'AES', valueLen: 32 }))],
    ['a key of a vendor', checkGeneration(0x8000_0001, [vendorAttribute])],
    [
      'a pair with a subject',
      checkPairGeneration(
        ck('CKM_RSA_PKCS_KEY_PAIR_GEN'),
        template({ modulusBits: 2048, publicExponent: Buffer.from([3]) }),
        template({ subject: Buffer.from('30', 'hex') }),
      ),
    ],
    ['a certificate elsewhere', checkCreation(template({ class: 'CERTIFICATE', certType: 'X_509', url: 'http://x' }))],
    [
      'allowed mechanisms',
      checkCreation(
        encodeTemplate('t', [
          { type: ck('CKA_CLASS'), value: secretKey },
          { type: ck('CKA_KEY_TYPE'), value: ck('CKK_AES') },
          { type: ck('CKA_VALUE'), value: Buffer.alloc(16) },
          { type: 0x4000_0600, value: Buffer.alloc(8) },
        ]),
      ),
    ],
    [
      'a public key with its info',
      checkCreation([
        ...template({ class: 'PUBLIC_KEY', keyType: 'RSA', modulus: Buffer.alloc(8), publicExponent: Buffer.alloc(1) }),
        { type: 0x129, value: Buffer.alloc(4) },
      ]),
    ],
    ['no start date', checkChange(template({ startDate: Buffer.alloc(0) }), secretKey)],
    ['less use', checkChange(template({ extractable: false, sensitive: true, encrypt: false }), secretKey)],
  ])('%s', (_what, violation) => expect(violation).toBeUndefined());
});

describe('templates that it does not allow', () => {
  test.each([
    [
      'domain parameters',
      checkGeneration(ck('CKM_DSA_PARAMETER_GEN'), template({ primeBits: 1024 })),
      'MECHANISM_INVALID',
    ],
    [
      'a number of four bytes',
      checkGeneration(ck('CKM_AES_KEY_GEN'), template({ valueLen: Buffer.alloc(4) })),
      'ATTRIBUTE_VALUE_INVALID',
    ],
    [
      'an unwrapped certificate',
      checkMade(template({ class: 'CERTIFICATE', keyType: 'AES' }), [secretKey]),
      'TEMPLATE_INCONSISTENT',
    ],
    [
      'a new value of a data object',
      checkChange(template({ value: Buffer.alloc(1) }), ck('CKO_DATA')),
      'ATTRIBUTE_READ_ONLY',
    ],
  ])('%s', (_what, violation, code) => expect(violation?.code).toBe(ck(`CKR_${code}`)));

  test('a template within a template is refused', () => {
    expect(() => encodeTemplate('t', [{ type: 0x4000_0211, value: Buffer.alloc(8) }])).toThrow(
      'no template within a template',
    );
  });
});
