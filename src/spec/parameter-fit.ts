import { constantsOf, findConstant } from './constants.js';

/** Kinds of pkcs11js's parameters (CK_PARAMS_*) that mechanisms take, by patterns of mechanism names. */
const rows: readonly (readonly [names: RegExp, kinds: readonly number[]])[] = [
  [/^(?:AES|CAMELLIA|ARIA|SEED)_CBC(?:_PAD|_ENCRYPT_DATA)?$/u, [1]],
  [/^AES_CCM$/u, [2, 26]],
  [/^AES_GCM$/u, [3, 7, 25]],
  [/^RSA_PKCS_OAEP$/u, [4]],
  [/RSA_PKCS_PSS$/u, [5]],
  [/^ECDH1_(?:COFACTOR_)?DERIVE$/u, [6]],
  [/^ECMQV_DERIVE$/u, [8, 9]],
  [/^X9_42_DH_DERIVE$/u, [10]],
  [/^X9_42_DH_HYBRID_DERIVE$/u, [11]],
  [/^X9_42_MQV_DERIVE$/u, [12]],
  [/^KEA_(?:KEY_)?DERIVE$/u, [13]],
  [/^RC2_CBC(?:_PAD)?$/u, [15]],
  [/^RC2_MAC_GENERAL$/u, [16]],
  [/^RC5_(?:ECB|MAC)$/u, [17]],
  [/^RC5_CBC(?:_PAD)?$/u, [18]],
  [/^RC5_MAC_GENERAL$/u, [19]],
  [/^DES3?_CBC_ENCRYPT_DATA$/u, [20]],
  [/^SKIPJACK_PRIVATE_WRAP$/u, [21]],
  [/^SKIPJACK_RELAYX$/u, [22]],
  [/^(?:PBE|PBA)_/u, [23]],
  [/^KEY_WRAP_SET_OAEP$/u, [24]],
  [/^GOSTR3410_DERIVE$/u, [27]],
  [/^GOSTR3410_KEY_WRAP$/u, [28]],
  // Structures with pointers for which pkcs11js has no kind.
  [
    /_ECB_ENCRYPT_DATA$|^CONCATENATE_(?:BASE|DATA)_AND|^XOR_BASE|^EDDSA$|PBKD2|^(?:RSA|ECDH)_AES_KEY_WRAP$|POLY1305$|^KIP_|^(?:TLS|SSL3|WTLS|DTLS)|^SP800|^HKDF|^X[23]DH_|^KEY_DERIVATION|^CMS_|^OTP|^(?:HOTP|SECURID|ACTI)/u,
    [],
  ],
];

/** Kinds whose structures hold no pointer. */
const flat: ReadonlySet<number> = new Set([5, 15, 16, 17, 19]);

/** Mechanisms whose parameter is the IV alone. */
const ivOnly: ReadonlySet<number> = new Set(
  ['AES', 'CAMELLIA', 'ARIA', 'SEED'].flatMap((name) =>
    [`CKM_${name}_CBC`, `CKM_${name}_CBC_PAD`].flatMap((each) => findConstant(each) ?? []),
  ),
);

const kindsOf: ReadonlyMap<number, readonly number[]> = new Map(
  [...constantsOf('CKM_')].flatMap(([name, type]) => {
    const row = rows.find(([names]) => names.test(name));
    return row === undefined ? [] : [[type, row[1]] as const];
  }),
);

/**
 * Returns true if a mechanism may have a parameter of that kind. A vendor's library would take fields of a wrong
 * structure for pointers. A mechanism that is not listed here may have any kind: the application knows the mechanism.
 */
export function fitsKind(type: number, kind: number): boolean {
  return kindsOf.get(type)?.includes(kind) ?? true;
}

/** Returns true if the parameter is a structure with pointers: plain bytes would hold addresses of another process. */
export function hasPointers(type: number): boolean {
  const kinds = kindsOf.get(type);
  return kinds !== undefined && !ivOnly.has(type) && !kinds.some((kind) => flat.has(kind));
}

/** Returns true if only the IV of CK_PARAMS_AES_CBC is the mechanism's parameter. */
export function takesIvOnly(type: number): boolean {
  return ivOnly.has(type);
}
