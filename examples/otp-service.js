// A service as LinOTP's security module is: it keeps OTP seeds and PINs encrypted with three AES keys, found by their
// labels, that never leave the HSMs.
//
//   POST /encrypt/KEY    a body of plaintext; answers `IV:CIPHERTEXT` in hexadecimal
//   POST /decrypt/KEY    a body as /encrypt answers; answers the plaintext
//   GET  /health         the members' states; 503 when none is in service
//
// KEY is default (PINs), config (passwords of resolvers) or value (OTP seeds); make-otp-keys.js makes them. Callers show the
// secret of the variable BEARER. Stop it with SIGTERM: it finishes what it has begun.
//
//   GROUP=group.yaml PORT=8080 BEARER=… node examples/otp-service.js
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import { VirtualToken } from 'pkcs11-ha';

const { GROUP = 'group.yaml', PORT = '8080', BEARER = '' } = process.env;
if (BEARER.length < 16) throw new Error('BEARER: expected a secret of at least 16 characters');
const MOST = 64 * 1024;
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

// What is encrypted for one purpose cannot be opened as another's, nor changed.
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

// What tokens say of data that cannot be opened: CKR_ENCRYPTED_DATA_INVALID, CKR_ENCRYPTED_DATA_LEN_RANGE, and some
// (SoftHSM) CKR_GENERAL_ERROR, on every member.
const unopened = new Set([0x40, 0x41, 0x05]);

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
    if (size > MOST) throw new Refused(400, `at most ${MOST} bytes`);
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
      const isData = request.url?.startsWith('/decrypt/') === true && unopened.has(error.code);
      if (!(error instanceof Refused) && !isData) console.error(error.message);
      response.statusCode = error.status ?? (isData ? 400 : 503);
      response.setHeader('connection', 'close');
      response.end(error instanceof Refused ? error.message : 'the request could not be served');
    },
  );
});

server.listen(Number(PORT), '127.0.0.1', () => console.log(`listening on ${server.address().port}`));

// What has come is answered, then the hosts are ended and the PIN is forgotten.
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
