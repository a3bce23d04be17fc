// Service like LinOTP's security module: encrypts OTP seeds and PINs with three AES keys that never leave the HSMs. The
// keys are found by their labels.
//
//   POST /encrypt/KEY    takes plaintext; answers `IV:CIPHERTEXT` in hexadecimal
//   POST /decrypt/KEY    takes the answer of /encrypt; answers the plaintext
//   GET  /health         answers the members' states; status 503 if no member is in service
//
// KEY is default (PINs), config (passwords of resolvers) or value (OTP seeds); make-otp-keys.js makes the keys. Callers
// send the secret of the variable BEARER. On SIGTERM the service finishes the requests it has begun.
//
//   GROUP=group.yaml PORT=8080 BEARER=… node examples/otp-service.js
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import { VirtualToken } from 'pkcs11-ha';

const { GROUP = 'group.yaml', PORT = '8080', BEARER = '' } = process.env;
if (BEARER.length < 16) throw new Error('BEARER: expected a secret of at least 16 characters');
/** Maximum size of a request's body (bytes). */
const MAX_BODY = 64 * 1024;
/** Time that open connections get after SIGTERM (ms). */
const GRACE = 5000;

const token = await VirtualToken.open(GROUP);
token.on('member', ({ member, from, to, reason }) => console.error(`${member}: ${from} -> ${to} ${reason}`));

const keys = new Map();
for (const name of ['default', 'config', 'value'])
  keys.set(name, await token.get({ label: name, class: 'SECRET_KEY', keyType: 'AES' }));

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// The key's name is authenticated too, so that data encrypted for one purpose cannot be decrypted for another.
const gcm = (iv, name) => ({ name: 'AES_GCM', params: { iv, aad: Buffer.from(name), tagBits: 128 } });

async function encrypt(name, plaintext) {
  const iv = randomBytes(12);
  const encrypted = await token.encrypt(gcm(iv, name), keys.get(name), plaintext);
  return `${iv.toString('hex')}:${encrypted.toString('hex')}`;
}

async function decrypt(name, text) {
  const [, iv, encrypted] = /^([0-9a-f]{24}):((?:[0-9a-f]{2}){16,})$/u.exec(text.toString('latin1').trim()) ?? [];
  if (encrypted === undefined) throw new Refused(400, 'expected IV:CIPHERTEXT in hexadecimal');
  return await token.decrypt(gcm(Buffer.from(iv, 'hex'), name), keys.get(name), Buffer.from(encrypted, 'hex'));
}

// Codes of tokens for data that cannot be decrypted: CKR_ENCRYPTED_DATA_INVALID, CKR_ENCRYPTED_DATA_LEN_RANGE, and on
// some tokens (SoftHSM) CKR_GENERAL_ERROR.
const invalidData = new Set([0x40, 0x41, 0x05]);

const actions = { encrypt, decrypt };

function checkCaller({ authorization = '' }) {
  const [given, expected] = [Buffer.from(authorization), Buffer.from(`Bearer ${BEARER}`)];
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) throw new Refused(401, 'not authorized');
}

async function readBody(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > MAX_BODY) throw new Refused(400, `the body is larger than ${MAX_BODY} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function answer(request) {
  const { method, url = '', headers } = request;
  if (method === 'GET' && url === '/health') {
    const members = token.status().members.map(({ name, state }) => ({ name, state }));
    if (!members.some(({ state }) => state === 'active' || state === 'standby' || state === 'stale'))
      throw new Refused(503, JSON.stringify(members));
    return JSON.stringify(members);
  }
  checkCaller(headers);
  const [, action, name] = url.split('/');
  if (method !== 'POST' || !keys.has(name) || !Object.hasOwn(actions, action)) throw new Refused(400, 'no such call');
  return await actions[action](name, await readBody(request));
}

const server = createServer((request, response) => {
  answer(request).then(
    (result) => response.end(result),
    (error) => {
      const isData = request.url?.startsWith('/decrypt/') === true && invalidData.has(error.code);
      if (!(error instanceof Refused) && !isData) console.error(error.message);
      response.statusCode = error.status ?? (isData ? 400 : 503);
      response.setHeader('connection', 'close');
      response.end(error instanceof Refused ? error.message : 'the request could not be served');
    },
  );
});

server.listen(Number(PORT), '127.0.0.1', () => console.log(`listening on ${server.address().port}`));

// Stops: answers the requests received, then ends the hosts and forgets the PIN.
let isStopping = false;
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    if (isStopping) return;
    isStopping = true;
    server.close(() => token.close());
    server.closeIdleConnections();
    setTimeout(() => server.closeAllConnections(), GRACE).unref();
  });
}
