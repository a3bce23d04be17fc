// Prints the labels of the secret keys on one HSM's token as JSON, read without the group: node look.js NAME
import { readFileSync } from 'node:fs';
import pkcs11js from 'pkcs11js';
import { addressOf, module } from './configuration.js';

const [, , name] = process.argv;
process.env.P11_KIT_SERVER_ADDRESS = addressOf(name);
const library = new pkcs11js.PKCS11();
library.load(module);
library.C_Initialize({ flags: pkcs11js.CKF_OS_LOCKING_OK });
const labels = [];
for (const slot of library.C_GetSlotList(true)) {
  const session = library.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION);
  library.C_Login(session, pkcs11js.CKU_USER, readFileSync('/run/secrets/hsm_pin', 'utf8').trim());
  library.C_FindObjectsInit(session, [{ type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_SECRET_KEY }]);
  for (let key = library.C_FindObjects(session); key; key = library.C_FindObjects(session)) {
    const [{ value }] = library.C_GetAttributeValue(session, key, [{ type: pkcs11js.CKA_LABEL }]);
    labels.push(value.toString());
  }
  library.C_FindObjectsFinal(session);
}
library.C_Finalize();
process.stdout.write(JSON.stringify(labels.filter((label) => !label.startsWith('pkcs11-ha:')).sort()));
