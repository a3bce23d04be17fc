// Child of softhsm.js: prepares and reads tokens through pkcs11js, apart from the code under test. Requests come on
// standard input, a line each, so that no PIN and no key is among the arguments. Each gets one line as its answer.
// All reads of tokens by tests go through here: `answer` repeats one that met a half-written token.
import { createHash } from 'node:crypto';
import { createInterface } from 'node:readline';
import pkcs11js from 'pkcs11js';

const CKF = pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION;

/** Time after which a token that cannot be read is given up (ms). */
const PATIENCE = 5_000;

/** Pause before a token is read again (ms). */
const PAUSE = 5;

/**
 * Codes that SoftHSM answers while another process writes a file of the token. No code of a PIN is among them: a
 * refused PIN is an answer.
 */
const halfWritten = [pkcs11js.CKR_GENERAL_ERROR, pkcs11js.CKR_DEVICE_ERROR, pkcs11js.CKR_TOKEN_NOT_RECOGNIZED];

/** The library, loaded anew for each request. */
let p11;

/** True once the request has begun to change the token, so that it must not be repeated. */
let hasWritten = false;

/** Returns an attribute's value, or undefined if the token does not give it. */
const attribute = (session, object, type) => {
  try {
    return p11.C_GetAttributeValue(session, object, [{ type }])[0].value;
  } catch {
    return undefined;
  }
};

/** Returns a digest that is equal for equal keys: of a secret key's value, or of the public values of other objects. */
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

/** Returns CKR_OK or the message of the error that a call throws. */
const answerOf = (call) => {
  try {
    call();
    return 'CKR_OK';
  } catch (error) {
    return error.message;
  }
};

/** Returns the handles of all objects that match a template. */
function findAll(session, template) {
  p11.C_FindObjectsInit(session, template);
  const handles = p11.C_FindObjects(session, 100_000);
  p11.C_FindObjectsFinal(session);
  return handles;
}

/**
 * Returns all objects, as they were at one time. If another process makes or destroys an object meanwhile, some of its
 * attributes are missing; the token is then read again, until no object has come or gone during the reading.
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

/** Returns the values of all data objects, in hexadecimal. */
function valuesOn(session) {
  const handles = findAll(session, [{ type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_DATA }]);
  return handles.map((object) => attribute(session, object, pkcs11js.CKA_VALUE)?.toString('hex') ?? '');
}

/** Error of a slot list without the token: SoftHSM leaves out a token whose files are half written. */
class MissingToken extends Error {}

function slotOf(label) {
  const found = p11.C_GetSlotList(true).find((slot) => p11.C_GetTokenInfo(slot).label.trimEnd() === label);
  if (found === undefined) throw new MissingToken(`no token is labelled ${label}`);
  return found;
}

/** Carries out one request on the token with its label; `request` in softhsm.d.ts names the fields. */
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
  hasWritten ||= initialize;
  if (initialize) {
    const slot = p11.C_GetSlotList(false).at(-1);
    // pkcs11js does not pad the label.
    p11.C_InitToken(slot, soPin, label.padEnd(32));
  }
  const slot = slotOf(label);
  hasWritten ||= reinitialize;
  if (reinitialize) p11.C_InitToken(slot, soPin, label.padEnd(32));
  const session = p11.C_OpenSession(slot, CKF);
  if (initialize || reinitialize) {
    p11.C_Login(session, pkcs11js.CKU_SO, soPin);
    p11.C_InitPIN(session, pin);
    p11.C_Logout(session);
  }
  p11.C_Login(session, pkcs11js.CKU_USER, pin);
  hasWritten ||= destroy.length > 0 || objects.length > 0;
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

/** Carries out a request with a library initialised anew, which then reads its environment and the token's files. */
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

/** Carries out a request; repeats it while another process has the token half written, within PATIENCE. */
function answer({ env, ...request }) {
  Object.assign(process.env, env);
  const until = Date.now() + PATIENCE;
  hasWritten = false;
  for (let tries = 1; ; tries += 1) {
    try {
      return performOnce(request);
    } catch (error) {
      const isHalfWritten = error instanceof MissingToken || halfWritten.includes(error.code);
      if (!isHalfWritten || hasWritten) return { error: error.stack };
      if (Date.now() > until)
        return { error: `the token could not be read in ${PATIENCE / 1000} s, ${tries} tries: ${error.stack}` };
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE);
    }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(answer(JSON.parse(line)))}\n`);
}
