// Child of softhsm.js: prepares one token through pkcs11js, apart from what is being tested. The request comes
// on standard input, so that no PIN and no key is among the arguments.
import { readFileSync } from 'node:fs';
import pkcs11js from 'pkcs11js';

const request = JSON.parse(readFileSync(0, 'utf8'));
const { module, label, pin, soPin, initialize = false, objects = [], destroy = [] } = request;
const CKF = pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION;

const p11 = new pkcs11js.PKCS11();
p11.load(module);
p11.C_Initialize();
try {
  if (initialize) {
    const slot = p11.C_GetSlotList(false).at(-1);
    // pkcs11js does not pad the label.
    p11.C_InitToken(slot, soPin, label.padEnd(32));
  }
  const slot = p11.C_GetSlotList(true).find((candidate) => p11.C_GetTokenInfo(candidate).label.trimEnd() === label);
  const session = p11.C_OpenSession(slot, CKF);
  if (initialize) {
    p11.C_Login(session, pkcs11js.CKU_SO, soPin);
    p11.C_InitPIN(session, pin);
    p11.C_Logout(session);
  }
  p11.C_Login(session, pkcs11js.CKU_USER, pin);
  for (const name of destroy) {
    p11.C_FindObjectsInit(session, [{ type: pkcs11js.CKA_LABEL, value: name }]);
    const found = p11.C_FindObjects(session, 100);
    p11.C_FindObjectsFinal(session);
    for (const object of found) p11.C_DestroyObject(session, object);
  }
  for (const template of objects) {
    p11.C_CreateObject(
      session,
      Object.entries(template).map(([name, value]) => ({
        type: pkcs11js[`CKA_${name}`],
        value: typeof value === 'string' && value.startsWith('hex:') ? Buffer.from(value.slice(4), 'hex') : value,
      })),
    );
  }
  const serial = p11.C_GetTokenInfo(slot).serialNumber.trimEnd();
  process.stdout.write(JSON.stringify({ serial, objects: objects.length }));
} finally {
  p11.C_Finalize();
}
