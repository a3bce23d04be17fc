// Service that signs and encrypts all the time, and serves requests over a socket (see control.js).
import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { createGroup, generateAdministrationKey, VirtualToken } from 'pkcs11-ha';
import { firstConfiguration } from './configuration.js';
import { Workload } from './workload.js';

const SOCKET = '/run/app/control.sock';
const path = process.env.PKCS11_HA_CONFIG;
/** Deadline of a call (ms): long enough to outlast a while without any HSM. */
const DEADLINE = 30_000;
/** Maximum time to form the group (ms). */
const FORM_WITHIN = 60_000;
/** Pause between attempts to form the group (ms). */
const RETRY_PAUSE = 500;

/** Forms the group at the first start. Its configuration is on the volume, where the operator's tool changes it. */
async function form() {
  if (existsSync(path)) return;
  if (!existsSync(`${path}.new`)) {
    // The administration key is on the volume too, since the operator's tool runs in this container.
    const { publicKey, privateKey } = generateAdministrationKey();
    const file = `${path}.administration-key`;
    writeFileSync(file, `${privateKey}\n`, { mode: 0o600 });
    writeFileSync(`${path}.new`, firstConfiguration(DEADLINE, publicKey, file));
  }
  for (const until = Date.now() + FORM_WITHIN; ; await pause(RETRY_PAUSE)) {
    try {
      // Accepts a group that an interrupted start has formed already.
      await createGroup(`${path}.new`, { existing: 'copy' });
      break;
    } catch (error) {
      // Forming needs all HSMs, and some may still be starting.
      if (Date.now() > until) throw error;
    }
  }
  renameSync(`${path}.new`, path);
}

await form();
const token = await VirtualToken.open(path, { deadline: DEADLINE });
const workload = await Workload.prepare(token);
workload.start();

const aes = { token: true, valueLen: 32, encrypt: true, decrypt: true, sensitive: true, extractable: false };

/** Requests by name; each receives the request's parameters. */
const requests = {
  status: () => token.status(),
  /** Begins a new report. */
  mark: () => workload.mark(),
  /** Returns the report since the last `mark`. */
  report: () => workload.report(),
  /** Resolves when a member is in one of the states, or has been in one since `since`. */
  await: ({ member, states, since }) => workload.untilState(member, states, since),
  /** Resolves after this number of further operations. */
  work: ({ operations }) => workload.untilDone(operations),
  make: async ({ labels }) => {
    for (const label of labels) await token.generateKey('AES_KEY_GEN', { ...aes, label });
  },
  /** Ensures a key for each label; returns their handles. */
  ensure: async ({ labels }) => {
    const handles = [];
    for (const label of labels)
      handles.push(
        (await token.ensureKey(label, 'AES_KEY_GEN', { valueLen: 32, encrypt: true, decrypt: true })).handle,
      );
    return handles;
  },
  destroy: async ({ labels }) => {
    for (const label of labels) await token.destroyObject(await token.get({ label }));
  },
};

rmSync(SOCKET, { force: true });
const server = createServer(async (request, response) => {
  try {
    const { name, ...parameters } = await json(request);
    const result = await requests[name](parameters);
    response.end(JSON.stringify(result ?? null));
  } catch (error) {
    response.statusCode = 500;
    response.end(JSON.stringify({ error: error.message }));
  }
}).listen(SOCKET);

process.on('SIGTERM', async () => {
  server.close();
  await workload.stop();
  await token.close();
  process.exit();
});
