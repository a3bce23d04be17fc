// Intended differences between the virtual slot and pkcs11js over SoftHSM. Each has a row of the same name in
// docs/pkcs11js.md. Any other difference is a fault.

const code = (line) => /code (\d+)/u.exec(line)?.[1];
const name = (line) => /^C_\w+/u.exec(line)?.[0] ?? '';
const FUNCTION_NOT_SUPPORTED = '84';
const OPERATION_NOT_INITIALIZED = '145';

export const differences = [
  {
    name: 'errors of four methods',
    isIt: (theirs, ours) => {
      const raw = /^(C_\w+) threw Error '(?:(CKR_\w+):(\d+)|PKCS11 module not loaded yet)' code undefined$/u.exec(
        theirs,
      );
      if (raw === null) return false;
      if (raw[2] === undefined)
        return ours.startsWith(`${raw[1]} threw NativeError < Error 'PKCS11 module not loaded yet' code 0`);
      return ours.startsWith(`${raw[1]} threw Pkcs11Error < NativeError < Error '${raw[2]}' code ${raw[3]}`);
    },
  },
  {
    name: 'dual-function calls and recovery',
    isIt: (theirs, ours) =>
      /^C_(DigestEncrypt|DecryptDigest|SignEncrypt|DecryptVerify|SignRecover|VerifyRecover)/u.test(theirs) &&
      code(theirs) === FUNCTION_NOT_SUPPORTED &&
      code(ours) === OPERATION_NOT_INITIALIZED,
  },
  {
    name: 'which of several faults',
    isIt: (theirs, ours) =>
      /^C_(Wrap|Unwrap|Derive)Key$/u.test(name(theirs)) &&
      code(theirs) === '112' &&
      ['275', '240', '96'].includes(code(ours)),
  },
  {
    name: 'key handles',
    isIt: (theirs, ours) => /Init$/u.test(name(theirs)) && code(theirs) === '130' && code(ours) === '96',
  },
  {
    name: 'the security officer',
    isIt: (theirs, ours) =>
      /^C_(Login|InitPIN)$/u.test(name(theirs)) && code(theirs) !== undefined && code(ours) === FUNCTION_NOT_SUPPORTED,
  },
  {
    name: 'C_Logout without a login',
    isIt: (theirs, ours) => theirs === 'C_Logout: undefined' && code(ours) === '257',
  },
  {
    name: 'C_Logout ends operations',
    isIt: (theirs, ours, each) =>
      each === 'an operation whose session is closed, and whose login ends' &&
      code(theirs) === '144' &&
      code(ours) === '96',
  },
  {
    name: 'an empty string as room',
    isIt: (theirs, ours) =>
      name(theirs) === 'C_GetAttributeValue' &&
      code(theirs) === '336' &&
      ours === 'C_GetAttributeValue: 3=Buffer 616573',
  },
  {
    name: 'empty data',
    isIt: (theirs, ours, each) =>
      each === 'empty data' && code(theirs) === '7' && ours.startsWith('C_Digest: Buffer e3b0c44298fc1c14'),
  },
  {
    name: 'at once after a part',
    isIt: (theirs, ours) => /^C_(Digest|Encrypt): Buffer/u.test(theirs) && code(ours) === OPERATION_NOT_INITIALIZED,
  },
  {
    name: 'a call that fails ends its operation',
    isIt: (theirs, ours) =>
      /^C_Encrypt(Update|Final)$/u.test(name(theirs)) &&
      code(theirs) === FUNCTION_NOT_SUPPORTED &&
      code(ours) === OPERATION_NOT_INITIALIZED,
  },
  {
    name: 'attributes of keys that have travelled',
    isIt: (theirs, ours) =>
      /^C_GetAttributeValue: 35[56]=Buffer 01$/u.test(theirs) && ours === theirs.replace(/01$/u, '00'),
  },
  {
    name: 'codes for templates',
    isIt: (theirs, ours) => name(theirs) === 'C_GenerateKey' && code(theirs) === '19' && code(ours) === '209',
  },
];
