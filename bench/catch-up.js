// Measures how long a member takes to catch up with keys that were made while it was away. Also measures the latency of
// signatures on the other member before, during and after that, in one run: `node bench/catch-up.js [KEYS]`
import { createGroup, VirtualToken } from '../dist/index.js';
import { makeFolder, makeHsm } from '../test/support/softhsm.js';
import { spreadOf } from './lib/statistics.js';

const keys = Number(process.argv[2] ?? 5000);
const callers = 4;
const digest = Buffer.alloc(32, 7);
const folder = makeFolder('bench-catch-up');
const hsms = await Promise.all(['hsm1', 'hsm2'].map((name) => makeHsm(folder.path, name)));
process.env.PKCS11_HA_BENCH_PIN = hsms[0].pin;
// The administration key of the group goes into this folder.
process.env.XDG_CONFIG_HOME = folder.path;
const memberOf = (hsm) => ({ name: hsm.label, module: hsm.module, token: { serial: hsm.serial }, env: hsm.env });
const configuration = {
  label: 'bench',
  members: hsms.map(memberOf),
  pin: { env: 'PKCS11_HA_BENCH_PIN' },
  // Long limits, because thousands of objects make SoftHSM slow.
  policy: { deadline: 300_000, hangAfter: 10_000, writeHangAfter: 120_000, recovery: 'manual' },
};

/** Signs steadily until the promise `until` is fulfilled; returns the spread of the latencies (ms). */
async function signWhile(token, key, until) {
  let isOver = false;
  const latencies = [];
  const ended = until.finally(() => {
    isOver = true;
  });
  const caller = async () => {
    while (!isOver) {
      const startedAt = performance.now();
      await token.sign('ECDSA', key, digest);
      latencies.push(performance.now() - startedAt);
      // A steady load, not a maximal one, shows the latency that catch-up adds.
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  await Promise.all([ended, ...Array.from({ length: callers }, caller)]);
  return spreadOf(latencies);
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

try {
  await createGroup(configuration);
  const token = await VirtualToken.open(configuration);
  const paramsEC = Buffer.from('06082a8648ce3d030107', 'hex');
  const { privateKey } = await token.generateKeyPair(
    'EC_KEY_PAIR_GEN',
    { token: true, label: 'signer', paramsEC, verify: true },
    { token: true, label: 'signer', sign: true, extractable: true },
  );
  process.kill(token.status().members[1].pid, 'SIGKILL');
  while (token.status().members[1].state !== 'down') await pause(5);
  const madeAt = performance.now();
  let made = 0;
  const maker = async () => {
    while (made < keys) {
      made += 1;
      await token.generateKey('AES_KEY_GEN', { token: true, label: `key ${made}`, valueLen: 32, encrypt: true });
    }
  };
  await Promise.all(Array.from({ length: 8 }, maker));
  process.stdout.write(`${keys} keys made in ${((performance.now() - madeAt) / 1000).toFixed(1)} s\n`);
  // Signatures run on one member alone, before and during the catch-up of the other.
  const before = await signWhile(token, privateKey, pause(10_000));
  const startedAt = performance.now();
  token.on('progress', ({ what, done, total, rate }) => {
    if (done % 1000 < 30) process.stdout.write(`${what}: ${done} of ${total}, ${rate} a second\n`);
  });
  const recovered = token.recover('hsm2', { deadline: 3_600_000 });
  const meanwhile = await signWhile(token, privateKey, recovered);
  const seconds = (performance.now() - startedAt) / 1000;
  process.stdout.write(`caught up with ${keys} keys in ${seconds.toFixed(1)} s\n`);
  // The group removes the journal entries little by little after the catch-up.
  const afterwards = await signWhile(token, privateKey, pause(30_000));
  for (const [name, spread] of Object.entries({ before, meanwhile, afterwards }))
    process.stdout.write(`${name.padEnd(10)} ${JSON.stringify(spread)}\n`);
  process.stdout.write(`p99 meanwhile / before: ${(meanwhile.p99 / before.p99).toFixed(2)}\n`);
  process.stdout.write(`p99 afterwards / before: ${(afterwards.p99 / before.p99).toFixed(2)}\n`);
  await token.close();
} finally {
  folder.remove();
}
