// Forms a group of the configured members, unless they are a group already, and makes the keys that otp-service.js
// uses.
//
//   node examples/make-otp-keys.js group.yaml
import { createGroup, VirtualToken } from 'pkcs11-ha';

const configuration = process.argv[2] ?? 'group.yaml';
await createGroup(configuration).catch((error) => {
  // CKR_ACTION_PROHIBITED: the members are a group already.
  if (error.code !== 0x1b) throw error;
});

const token = await VirtualToken.open(configuration);
for (const label of ['default', 'config', 'value']) {
  if ((await token.find({ label, class: 'SECRET_KEY' })).length > 0) continue;
  await token.generateKey('AES_KEY_GEN', {
    token: true,
    label,
    valueLen: 32,
    encrypt: true,
    decrypt: true,
    sensitive: true,
    extractable: false,
  });
  console.log(`${label} is on every member`);
}
await token.close();
