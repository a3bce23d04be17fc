// Script of calls, valid and invalid, that runs on pkcs11js over one token and on pkcs11-ha over a group.
import { argumentCases } from './argument-cases.js';
import { cipherCases } from './cipher-cases.js';
import { keyCases } from './key-cases.js';
import { objectCases } from './object-cases.js';
import { sessionCases } from './session-cases.js';
import { signatureCases } from './signature-cases.js';

export const cases = [
  ...argumentCases,
  ...sessionCases,
  ...objectCases,
  ...signatureCases,
  ...cipherCases,
  ...keyCases,
];
