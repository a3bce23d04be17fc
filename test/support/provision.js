// Child of softhsm.js: prepares tokens through pkcs11js, or reads what is on them, apart from what is being tested. Requests
// come on standard input, a line each, so that no PIN and no key is among the arguments; each is answered by a line.
import { createHash } from 'node:crypto';
import { createInterface } from 'node:readline';
import pkcs11js from 'pkcs11js';

const CKF = pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION;

/** The library, loaded anew for each request. */
let p11;

const attribute = (session, object, type) => {
  try {
    return p11.C_GetAttributeValue(session, object, [{ type }])[0].value;
  } catch {
    return undefined;
  }
};

// What shows which key it is: the digest of a secret one, the public values of others.
function fingerprint(session, object) {
  const hash = createHash('sha256');
  try {
    p11.C_DigestInit(session, { mechanism: pkcs11js.CKM_SHA256 });
    p11.C_DigestKey(session, object);
    return p11.C_DigestFinal(session, Buffer.alloc(32)).toString('hex');
  } catch {
    try {
      p11.C_DigestFinal(session, Buffer.alloc(32));
    } catch {}
  }
  for (const name of ['MODULUS', 'EC_PARAMS', 'EC_POINT', 'PRIME', 'BASE', 'VALUE'])
    hash.update(`${name}:${attribute(session, object, pkcs11js[`CKA_${name}`])?.toString('hex')}`);
  return hash.digest('hex');
}

const answerOf = (call) => {
  try {
    call();
    return 'CKR_OK';
  } catch (error) {
    return error.message;
  }
};

function findAll(session, template) {
  p11.C_FindObjectsInit(session, template);
  const handles = p11.C_FindObjects(session, 100_000);
  p11.C_FindObjectsFinal(session);
  return handles;
}

/**
 * All objects, as they were at one time: an object that another process makes or destroys while it is read shows
 * itself without some of its attributes, so the token is read until nothing has come or gone meanwhile.
 */
function readAll(session) {
  const onToken = [{ type: pkcs11js.CKA_TOKEN, value: true }];
  const wrapping = p11.C_GenerateKey(session, { mechanism: pkcs11js.CKM_AES_KEY_GEN }, [
    { type: pkcs11js.CKA_TOKEN, value: false },
    { type: pkcs11js.CKA_VALUE_LEN, value: 32 },
    { type: pkcs11js.CKA_WRAP, value: true },
  ]);
  const flags = [
    'TOKEN',
    'PRIVATE',
    'SENSITIVE',
    'EXTRACTABLE',
    'MODIFIABLE',
    'ENCRYPT',
    'DECRYPT',
    'SIGN',
    'VERIFY',
    'WRAP',
    'UNWRAP',
    'DERIVE',
  ];
  const read = (object) => {
    const bytes = (name) => attribute(session, object, pkcs11js[`CKA_${name}`]);
    const isKey = [pkcs11js.CKO_SECRET_KEY, pkcs11js.CKO_PRIVATE_KEY].includes(bytes('CLASS')?.[0]);
    return {
      class: bytes('CLASS')?.[0] ?? -1,
      type: bytes('KEY_TYPE')?.[0] ?? -1,
      label: bytes('LABEL')?.toString() ?? '',
      id: bytes('ID')?.toString('hex') ?? '',
      flags: flags.filter((name) => bytes(name)?.[0] === 1),
      fingerprint: fingerprint(session, object),
      wrapped: isKey
        ? answerOf(() => p11.C_WrapKey(session, { mechanism: 0x210a }, wrapping, object, Buffer.alloc(8192)))
        : '',
      value: answerOf(() => p11.C_GetAttributeValue(session, object, [{ type: pkcs11js.CKA_VALUE }])),
    };
  };
  for (let tries = 1; ; tries += 1) {
    const handles = findAll(session, onToken);
    const found = handles.map(read);
    const after = findAll(session, onToken);
    const whole = found.every((object) => object.class !== -1) && Buffer.concat(handles).equals(Buffer.concat(after));
    if (whole || tries === 50) return found;
  }
}

/** The values of all data objects. */
function valuesOn(session) {
  const handles = findAll(session, [{ type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_DATA }]);
  return handles.map((object) => attribute(session, object, pkcs11js.CKA_VALUE)?.toString('hex') ?? '');
}

/** SoftHSM cannot read a token that another process is just writing, or does not see it at all. */
class Unreadable extends Error {}

function slotOf(label) {
  const labelOf = (slot) => {
    try {
      return p11.C_GetTokenInfo(slot).label.trimEnd();
    } catch (error) {
      throw error.code === pkcs11js.CKR_GENERAL_ERROR ? new Unreadable(error.message) : error;
    }
  };
  const found = p11.C_GetSlotList(true).find((slot) => labelOf(slot) === label);
  if (found === undefined) throw new Unreadable(`there is no token ${label}`);
  return found;
}

function perform({
  label,
  pin,
  soPin,
  initialize = false,
  reinitialize = false,
  objects = [],
  destroy = [],
  read = false,
  values = false,
}) {
  if (initialize) {
    const slot = p11.C_GetSlotList(false).at(-1);
    // pkcs11js does not pad the label.
    p11.C_InitToken(slot, soPin, label.padEnd(32));
  }
  const slot = slotOf(label);
  if (reinitialize) p11.C_InitToken(slot, soPin, label.padEnd(32));
  const session = p11.C_OpenSession(slot, CKF);
  if (initialize || reinitialize) {
    p11.C_Login(session, pkcs11js.CKU_SO, soPin);
    p11.C_InitPIN(session, pin);
    p11.C_Logout(session);
  }
  p11.C_Login(session, pkcs11js.CKU_USER, pin);
  for (const name of destroy) {
    for (const object of findAll(session, [{ type: pkcs11js.CKA_LABEL, value: name }]))
      p11.C_DestroyObject(session, object);
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
  const found = read ? readAll(session) : [];
  const bytes = values ? valuesOn(session) : [];
  return { serial, objects: objects.length, found, values: bytes };
}

/** The library reads its environment and the token's files when it is initialised: so nothing is left of earlier requests. */
function performOnce(request) {
  p11 = new pkcs11js.PKCS11();
  p11.load(request.module);
  try {
    p11.C_Initialize();
    try {
      return perform(request);
    } finally {
      p11.C_Finalize();
    }
  } finally {
    p11.close();
  }
}

function answer({ env, ...request }) {
  Object.assign(process.env, env);
  for (let tries = 1; ; tries += 1) {
    try {
      return performOnce(request);
    } catch (error) {
      if (!(error instanceof Unreadable) || request.initialize || tries === 100) return { error: error.stack };
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(answer(JSON.parse(line)))}\n`);
}
