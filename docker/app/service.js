// A service that signs and encrypts all the time, and does what it is asked over a socket: see control.js.
import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { createGroup, VirtualToken } from 'pkcs11-ha';
import { firstConfiguration } from './configuration.js';
import { Workload } from './workload.js';

const SOCKET = '/run/app/control.sock';
const path = process.env.PKCS11_HA_CONFIG;
/** In ms. Not more than a call may take where no HSM can be reached for a while. */
const DEADLINE = 30_000;
const FORM_WITHIN = 60_000;
const LOOK = 500;

/** The group is formed once; its configuration stands on the volume, where the operator's tool changes it. */
async function form() {
  if (existsSync(path)) return;
  writeFileSync(`${path}.new`, firstConfiguration(DEADLINE));
  for (const until = Date.now() + FORM_WITHIN; ; await pause(LOOK)) {
    try {
      // Formed already by a start that was interrupted, it is taken as it is.
      await createGroup(`${path}.new`, { existing: 'copy' });
      break;
    } catch (error) {
      // All HSMs have to be there for that, and they may be just starting.
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

/** What it can be asked; each is given the request's parameters. */
const requests = {
  status: () => token.status(),
  /** Begins a new report. */
  mark: () => workload.mark(),
  /** What happened to the workload since. */
  report: () => workload.report(),
  /** Resolves when a member is in one of the states, or has been since then. */
  await: ({ member, states, since }) => workload.untilState(member, states, since),
  /** Resolves when so many operations more have been done. */
  work: ({ operations }) => workload.untilDone(operations),
  make: async ({ labels }) => {
    for (const label of labels) await token.generateKey('AES_KEY_GEN', { ...aes, label });
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
