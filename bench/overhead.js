// What a call costs beside what the token costs: ours against pkcs11js on the same SoftHSM token's keys, in
// turns within one run, because machines are noisy. Prints medians and their ratios; `--json` as one line.
//
//   node bench/overhead.js [--json]
import pkcs11js from 'pkcs11js';
import { runCall } from '../dist/core/call.js';
import { findObjects } from '../dist/core/find.js';
import { encrypt, sign } from '../dist/core/operation.js';
import { VirtualToken } from '../dist/index.js';
import { OpenGroup, readConfiguration } from '../dist/runtime/open-group.js';
import { encodeMechanism } from '../dist/spec/mechanism.js';
import { encodeTemplate } from '../dist/spec/template.js';
import { ecPair, secretKey } from '../test/support/keys.js';
import { makeFolder, makeHsm } from '../test/support/softhsm.js';

const ROUNDS = 7;
const hash = Buffer.alloc(32, 5);
const block = Buffer.alloc(1024, 5);
const iv = Buffer.alloc(16, 1);

const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** µs a call, one after the other. */
function timeSync(call, count) {
  const started = performance.now();
  for (let i = 0; i < count; i += 1) call();
  return ((performance.now() - started) * 1000) / count;
}

/** Calls a second, with so many under way. */
async function rateAsync(call, underWay, count) {
  let begun = 0;
  const started = performance.now();
  await Promise.all(
    Array.from({ length: underWay }, async (_, worker) => {
      while (begun < count) {
        begun += 1;
        await call(worker);
      }
    }),
  );
  return (count * 1000) / (performance.now() - started);
}

function openPeer(hsm) {
  // pkcs11js lives in this process: it needs the token's environment here.
  Object.assign(process.env, hsm.env);
  const p11 = new pkcs11js.PKCS11();
  p11.load(hsm.module);
  p11.C_Initialize({ flags: pkcs11js.CKF_OS_LOCKING_OK });
  const [slot] = p11.C_GetSlotList(true);
  const open = () => p11.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION);
  const sessions = Array.from({ length: 16 }, open);
  p11.C_Login(sessions[0], pkcs11js.CKU_USER, hsm.pin);
  const find = (label, objectClass) => {
    p11.C_FindObjectsInit(sessions[0], [
      { type: pkcs11js.CKA_LABEL, value: label },
      { type: pkcs11js.CKA_CLASS, value: objectClass },
    ]);
    const handle = p11.C_FindObjects(sessions[0]);
    p11.C_FindObjectsFinal(sessions[0]);
    return handle;
  };
  return { p11, sessions, find };
}

const folder = makeFolder('bench');
try {
  const objects = [ecPair('ec'), secretKey('aes')].flatMap((key) => key.objects);
  const hsms = await Promise.all(['hsm1', 'hsm2'].map((label) => makeHsm(folder.path, label, { objects })));
  process.env.BENCH_PIN = hsms[0].pin;
  const configuration = {
    label: 'bench',
    pin: { env: 'BENCH_PIN' },
    members: hsms.map(({ label, serial, module, env }) => ({ name: label, module, token: { serial }, env })),
  };
  const token = await VirtualToken.open(configuration);
  const group = new OpenGroup(readConfiguration(configuration));
  await group.awaitService(group.now() + 10_000);
  const { p11, sessions, find } = openPeer(hsms[0]);

  const findSync = (template) =>
    group.runSync(findObjects(group.group, encodeTemplate('t', template), group.now() + 10_000))[0];
  const [ourEc, ourAes] = [findSync({ label: 'ec', class: 'PRIVATE_KEY' }), findSync({ label: 'aes' })];
  const ecdsa = encodeMechanism('m', 'ECDSA');
  const cbc = encodeMechanism('m', { name: 'AES_CBC_PAD', params: iv });
  const [theirEc, theirAes] = [find('ec', pkcs11js.CKO_PRIVATE_KEY), find('aes', pkcs11js.CKO_SECRET_KEY)];
  const aes = await token.get({ label: 'aes' });
  const ec = await token.get({ label: 'ec', class: 'PRIVATE_KEY' });
  const output = () => Buffer.alloc(1100);

  const contests = [
    {
      name: 'synchronous ECDSA P-256, µs a call',
      ours: () =>
        timeSync(() => group.runSync(runCall(group.group, sign(ecdsa, ourEc, hash), group.now() + 10_000)), 500),
      theirs: () =>
        timeSync(() => {
          p11.C_SignInit(sessions[0], { mechanism: pkcs11js.CKM_ECDSA }, theirEc);
          p11.C_Sign(sessions[0], hash, output());
        }, 500),
    },
    {
      name: 'synchronous AES-256-CBC 1 KiB, µs a call',
      ours: () =>
        timeSync(() => group.runSync(runCall(group.group, encrypt(cbc, ourAes, block), group.now() + 10_000)), 1000),
      theirs: () =>
        timeSync(() => {
          p11.C_EncryptInit(sessions[0], { mechanism: pkcs11js.CKM_AES_CBC_PAD, parameter: iv }, theirAes);
          p11.C_Encrypt(sessions[0], block, output());
        }, 1000),
    },
    {
      name: '64 under way, AES-256-CBC 1 KiB, calls/s',
      ours: () => rateAsync(() => token.encrypt({ name: 'AES_CBC_PAD', params: iv }, aes, block), 64, 10_000),
      theirs: () =>
        rateAsync(
          (worker) => {
            p11.C_EncryptInit(sessions[worker], { mechanism: pkcs11js.CKM_AES_CBC_PAD, parameter: iv }, theirAes);
            return p11.C_EncryptAsync(sessions[worker], block, output());
          },
          4,
          10_000,
        ),
    },
    {
      name: '64 under way, ECDSA P-256, calls/s',
      ours: () => rateAsync(() => token.sign('ECDSA', ec, hash), 64, 3000),
      theirs: () =>
        rateAsync(
          (worker) => {
            p11.C_SignInit(sessions[worker], { mechanism: pkcs11js.CKM_ECDSA }, theirEc);
            return p11.C_SignAsync(sessions[worker], hash, output());
          },
          4,
          3000,
        ),
    },
  ];

  const results = [];
  for (const { name, ours, theirs } of contests) {
    const figures = { ours: [], theirs: [] };
    for (let round = -1; round < ROUNDS; round += 1) {
      const [a, b] = [await ours(), await theirs()];
      if (round < 0) continue;
      figures.ours.push(a);
      figures.theirs.push(b);
    }
    const [a, b] = [median(figures.ours), median(figures.theirs)];
    results.push({
      name,
      ours: Math.round(a * 10) / 10,
      pkcs11js: Math.round(b * 10) / 10,
      ratio: Math.round((a / b) * 100) / 100,
    });
  }
  if (process.argv.includes('--json')) console.log(JSON.stringify(results));
  else console.table(results);
  p11.C_Finalize();
  await group.close();
  await token.close();
} finally {
  folder.remove();
}
