import { describe, expect, test } from '@jest/globals';
import { aspectOf } from '../../src/spec/aspects.js';
import { ck, codeName, constantsOf, mechanismName } from '../../src/spec/constants.js';
import { verdictOn } from '../../src/spec/verdict.js';

describe('verdicts', () => {
  test.each([
    ['CKR_OK', 'ok'],
    ['CKR_SIGNATURE_INVALID', 'ok'],
    ['CKR_ARGUMENTS_BAD', 'caller'],
    ['CKR_KEY_FUNCTION_NOT_PERMITTED', 'caller'],
    ['CKR_MECHANISM_INVALID', 'mechanism'],
    ['CKR_SESSION_HANDLE_INVALID', 'session'],
    ['CKR_USER_NOT_LOGGED_IN', 'session'],
    ['CKR_KEY_HANDLE_INVALID', 'object'],
    ['CKR_SESSION_COUNT', 'busy'],
    ['CKR_DEVICE_ERROR', 'member'],
    ['CKR_TOKEN_NOT_PRESENT', 'member'],
    ['CKR_GENERAL_ERROR', 'ambiguous'],
    ['CKR_FUNCTION_FAILED', 'ambiguous'],
    ['CKR_PIN_LOCKED', 'credential'],
    ['CKR_USER_PIN_NOT_INITIALIZED', 'member'],
  ] as const)('%s is %s', (name, verdict) => expect(verdictOn(ck(name))).toBe(verdict));

  test("a vendor's code is ambiguous, unless the configuration has a verdict", () => {
    expect(verdictOn(0x8000_0001)).toBe('ambiguous');
    expect(verdictOn(0x8000_0001, new Map([[0x8000_0001, 'member']]))).toBe('member');
  });

  // Checks all codes: a code for an error of the caller that blamed members would take a group down.
  test('every code has one verdict, and codes about keys, data and templates never blame a member', () => {
    for (const [name, code] of constantsOf('CKR_')) {
      const verdict = verdictOn(code);
      if (/^(DATA|TEMPLATE|ATTRIBUTE|KEY_TYPE|WRAPPED|ENCRYPTED)/u.test(name))
        expect([name, verdict]).toEqual([name, 'caller']);
    }
  });
});

describe('names', () => {
  test('exist for codes and mechanisms', () => {
    expect(codeName(0x30)).toBe('CKR_DEVICE_ERROR');
    expect(codeName(0x8000_0123)).toBe('CKR_VENDOR_DEFINED (0x80000123)');
    expect(mechanismName(0x1082)).toBe('CKM_AES_CBC');
    expect(() => ck('CKR_NOTHING')).toThrow('no constant CKR_NOTHING');
  });
});

test('[Rule 6] only stateful signatures may not be repeated', () => {
  expect(aspectOf('C_Sign', ck('CKM_HSS'))).toBe('stateful');
  expect(aspectOf('C_Verify', ck('CKM_HSS'))).toBe('pure');
  expect(aspectOf('C_Sign', ck('CKM_ECDSA'))).toBe('pure');
});
