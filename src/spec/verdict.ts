import { CKR } from './codes.js';
import { constantsOf } from './constants.js';

/** Classification of CKR codes by the party at fault; `ambiguous` if the code does not tell. */
export type Verdict =
  | 'ok'
  | 'caller'
  | 'mechanism'
  | 'session'
  | 'object'
  | 'busy'
  | 'member'
  | 'ambiguous'
  | 'credential';

// Codes by verdict; names without CKR_.
const named: Readonly<Record<Exclude<Verdict, 'ambiguous'>, readonly string[]>> = {
  ok: ['OK', 'SIGNATURE_INVALID', 'SIGNATURE_LEN_RANGE', 'BUFFER_TOO_SMALL', 'NO_EVENT'],
  caller: [
    'ARGUMENTS_BAD',
    'MECHANISM_PARAM_INVALID',
    'DATA_INVALID',
    'DATA_LEN_RANGE',
    'ENCRYPTED_DATA_INVALID',
    'ENCRYPTED_DATA_LEN_RANGE',
    'KEY_TYPE_INCONSISTENT',
    'KEY_SIZE_RANGE',
    'KEY_FUNCTION_NOT_PERMITTED',
    'KEY_INDIGESTIBLE',
    'KEY_NOT_WRAPPABLE',
    'KEY_UNEXTRACTABLE',
    'KEY_NOT_NEEDED',
    'KEY_NEEDED',
    'KEY_CHANGED',
    'ACTION_PROHIBITED',
    'ATTRIBUTE_READ_ONLY',
    'ATTRIBUTE_SENSITIVE',
    'ATTRIBUTE_TYPE_INVALID',
    'ATTRIBUTE_VALUE_INVALID',
    'TEMPLATE_INCOMPLETE',
    'TEMPLATE_INCONSISTENT',
    'WRAPPED_KEY_INVALID',
    'WRAPPED_KEY_LEN_RANGE',
    'WRAPPING_KEY_HANDLE_INVALID',
    'WRAPPING_KEY_SIZE_RANGE',
    'WRAPPING_KEY_TYPE_INCONSISTENT',
    'UNWRAPPING_KEY_HANDLE_INVALID',
    'UNWRAPPING_KEY_SIZE_RANGE',
    'UNWRAPPING_KEY_TYPE_INCONSISTENT',
    'DOMAIN_PARAMS_INVALID',
    'SAVED_STATE_INVALID',
    'STATE_UNSAVEABLE',
    'FUNCTION_NOT_PARALLEL',
    'KEY_EXHAUSTED',
  ],
  mechanism: ['MECHANISM_INVALID', 'FUNCTION_NOT_SUPPORTED', 'RANDOM_NO_RNG', 'CURVE_NOT_SUPPORTED'],
  session: [
    'SESSION_HANDLE_INVALID',
    'SESSION_CLOSED',
    'USER_NOT_LOGGED_IN',
    'OPERATION_ACTIVE',
    'OPERATION_NOT_INITIALIZED',
    'CRYPTOKI_NOT_INITIALIZED',
  ],
  object: ['KEY_HANDLE_INVALID', 'OBJECT_HANDLE_INVALID'],
  busy: ['SESSION_COUNT', 'HOST_MEMORY', 'DEVICE_MEMORY', 'CANT_LOCK', 'FUNCTION_CANCELED'],
  member: [
    'DEVICE_ERROR',
    'DEVICE_REMOVED',
    'TOKEN_NOT_PRESENT',
    'TOKEN_NOT_RECOGNIZED',
    'SLOT_ID_INVALID',
    // No PIN was checked and no try is spent: a token in files answers so for a moment while another process logs in.
    'USER_PIN_NOT_INITIALIZED',
  ],
  credential: ['PIN_INCORRECT', 'PIN_INVALID', 'PIN_LEN_RANGE', 'PIN_EXPIRED', 'PIN_LOCKED'],
};

const codes = constantsOf('CKR_');

const table: ReadonlyMap<number, Verdict> = new Map(
  Object.entries(named).flatMap(([verdict, names]) =>
    names.flatMap((name) => {
      const code = codes.get(name);
      return code === undefined ? [] : [[code, verdict as Verdict] as const];
    }),
  ),
);

/** Verdicts of the configuration on CKR codes (policy.verdicts); they replace the standard verdicts. */
type VerdictOverrides = ReadonlyMap<number, Verdict>;

/** Returns the verdict on a code; codes outside the tables (FUNCTION_FAILED, GENERAL_ERROR, vendors') are ambiguous. */
export function verdictOn(code: number, overrides?: VerdictOverrides): Verdict {
  return overrides?.get(code) ?? table.get(code) ?? 'ambiguous';
}

/** Code of success. */
export const CKR_OK: number = CKR.ok;
