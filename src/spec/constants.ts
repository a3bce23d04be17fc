import pkcs11js from '#pkcs11js';

type Constants = Readonly<Record<string, number>>;

/**
 * Constants that pkcs11js lacks: session states, and names of PKCS#11 3.0 and later. The mechanisms of stateful
 * signatures are listed because aspects.ts needs them.
 */
const later = {
  CKS_RO_USER_FUNCTIONS: 1,
  CKS_RW_USER_FUNCTIONS: 3,
  CKM_EDDSA: 0x1057,
  CKM_EC_EDWARDS_KEY_PAIR_GEN: 0x1055,
  CKM_HSS: 0x4033,
  CKM_XMSS: 0x4036,
  CKM_XMSSMT: 0x4037,
  CKA_COPYABLE: 0x171,
  CKA_DESTROYABLE: 0x172,
  CKK_EC_EDWARDS: 0x40,
  CKK_EC_MONTGOMERY: 0x41,
  CKK_HSS: 0x46,
  CKK_XMSS: 0x47,
  CKK_XMSSMT: 0x48,
  CKR_ACTION_PROHIBITED: 0x1b,
  CKR_OPERATION_CANCEL_FAILED: 0x202,
  CKR_KEY_EXHAUSTED: 0x203,
} as const;

/** Returns a PKCS#11 constant by full name: `ck('CKR_OK')`. Throws a plain Error for an unknown name. */
export function ck(name: string): number {
  const value = findConstant(name);
  if (value === undefined) throw new Error(`PKCS#11 has no constant ${name}`);
  return value;
}

/** Returns the constant of a full name, or undefined. */
export function findConstant(name: string): number | undefined {
  const value = (later as Constants)[name] ?? (pkcs11js as unknown as Constants)[name];
  return typeof value === 'number' ? value : undefined;
}

/** Returns the constants of a prefix by name without the prefix: `constantsOf('CKM_').get('AES_CBC')`. */
export function constantsOf(prefix: string): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  for (const source of [pkcs11js as unknown as Constants, later as Constants]) {
    for (const [name, value] of Object.entries(source)) {
      if (name.startsWith(prefix) && typeof value === 'number') found.set(name.slice(prefix.length), value);
    }
  }
  return found;
}

/**
 * Returns the names of a prefix, without the prefix, by value. A value of several names has the shortest (EC, not
 * ECDSA).
 */
export function namesOf(prefix: string): ReadonlyMap<number, string> {
  const names = new Map<number, string>();
  for (const [name, value] of constantsOf(prefix)) {
    if (name.length < (names.get(value)?.length ?? Number.POSITIVE_INFINITY)) names.set(value, name);
  }
  return names;
}

const codes = namesOf('CKR_');
const mechanisms = namesOf('CKM_');

function hexadecimal(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}

/** Returns the name of a code: `CKR_DEVICE_ERROR`, or `CKR_VENDOR_DEFINED (0x80000123)` if no header names the code. */
export function codeName(code: number): string {
  const name = codes.get(code);
  return name === undefined ? `CKR_VENDOR_DEFINED (${hexadecimal(code)})` : `CKR_${name}`;
}

/** Returns the name of a mechanism: `CKM_AES_CBC`, or `CKM 0x00001082` if no header names the mechanism. */
export function mechanismName(mechanism: number): string {
  const name = mechanisms.get(mechanism);
  return name === undefined ? `CKM ${hexadecimal(mechanism)}` : `CKM_${name}`;
}
