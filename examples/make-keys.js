// Forms a group of the configured members, unless they are a group already, and makes the keys that sign-service.js
// uses.
//
//   node examples/make-keys.js group.yaml
import { createGroup, VirtualToken } from 'pkcs11-ha';

const configuration = process.argv[2] ?? 'group.yaml';
try {
  console.log(await createGroup(configuration));
} catch (error) {
  // CKR_ACTION_PROHIBITED: the members are a group already.
  if (error.code !== 0x1b) throw error;
}

const token = await VirtualToken.open(configuration);
const { privateKey } = await token.generateKeyPair(
  'RSA_PKCS_KEY_PAIR_GEN',
  { token: true, label: 'audit', modulusBits: 2048, verify: true },
  { token: true, label: 'audit', sign: true, sensitive: true, extractable: false },
);
console.log(`${privateKey.label} has the handle ${privateKey.handle} on every member`);
await token.close();
