// Child process of the opening scenario: opens a group, or a token through pkcs11js, and finds one object twice. Prints
// the times as one line of JSON (ms). The request comes on standard input, because it may hold a PIN.
import { readFileSync } from 'node:fs';

const request = JSON.parse(readFileSync(0, 'utf8'));

async function timed(work) {
  const startedAt = performance.now();
  const result = await work();
  return { result, took: performance.now() - startedAt };
}

async function openGroup({ file, label }) {
  const { VirtualToken } = await import('../../dist/index.js');
  const { result: token, took } = await timed(() => VirtualToken.open(file));
  return { open: took, find: () => token.get({ label }), close: () => token.close() };
}

async function openToken({ module, pin, label }) {
  const { default: pkcs11js } = await import('pkcs11js');
  const library = new pkcs11js.PKCS11();
  const { result: session, took } = await timed(() => {
    library.load(module);
    library.C_Initialize();
    const [slot] = library.C_GetSlotList(true);
    return library.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION);
  });
  library.C_Login(session, pkcs11js.CKU_USER, pin);
  const find = () => {
    library.C_FindObjectsInit(session, [{ type: pkcs11js.CKA_LABEL, value: label }]);
    const found = library.C_FindObjects(session);
    library.C_FindObjectsFinal(session);
    if (found === null) throw new Error(`the token has no object ${label}`);
  };
  return { open: took, find, close: () => library.C_Finalize() };
}

const { open, find, close } = await (request.module === undefined ? openGroup : openToken)(request);
const { took: first } = await timed(find);
const { took: second } = await timed(find);
await close();
process.stdout.write(JSON.stringify({ open, first, second }));
