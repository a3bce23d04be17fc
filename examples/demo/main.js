// Demo of failover: two SoftHSM tokens with the same keys, one virtual token over both, and 16 callers that sign and
// encrypt while hosts are killed and stopped. Every result is checked with node:crypto, independently of the group.
//
//   npm run demo              a live view and a summary
//   npm run demo -- --json    the summary as one line of JSON
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { VirtualToken } from 'pkcs11-ha';
import { ecPair, rsaPair, secretKey } from '../../test/support/keys.js';
import { makeFolder, makeHsm } from '../../test/support/softhsm.js';
import { Screen } from './screen.js';
import { Workload } from './workload.js';

const { values: options } = parseArgs({ options: { json: { type: 'boolean', default: false } } });
/** Number of callers. */
const CALLERS = 16;

async function untilState(token, name, state) {
  const isThere = () => token.status().members.some((member) => member.name === name && member.state === state);
  while (!isThere()) await new Promise((resolve) => token.once('member', resolve));
}

/** Lets the callers work for some time (ms); returns the number of operations done meanwhile. */
async function workFor(workload, ms) {
  const before = workload.operations;
  await new Promise((resolve) => setTimeout(resolve, ms));
  return workload.operations - before;
}

function pidOf(token, name) {
  return token.status().members.find((member) => member.name === name).pid;
}

async function breakThings(token, workload, screen) {
  screen.say('two HSMs, one virtual token: 16 callers sign and encrypt');
  await workFor(workload, 1500);

  screen.say('kill -9 the host of hsm1');
  process.kill(pidOf(token, 'hsm1'), 'SIGKILL');
  await workFor(workload, 300);
  await untilState(token, 'hsm1', 'active');
  screen.say('hsm1 is back; no caller saw an error');
  await workFor(workload, 1500);

  screen.say('SIGSTOP the host of hsm2: the host hangs');
  process.kill(pidOf(token, 'hsm2'), 'SIGSTOP');
  await untilState(token, 'hsm2', 'suspect');
  screen.say('hsm2 is suspect; its calls moved to hsm1');
  await untilState(token, 'hsm2', 'active');
  screen.say('the host of hsm2 was replaced; hsm2 is back');
  await workFor(workload, 1500);
}

const folder = makeFolder('demo');
const screen = new Screen({ live: !options.json && process.stdout.isTTY === true, quiet: options.json });
let token;
let summary;
try {
  screen.say('making two HSMs with the same RSA, EC and AES keys');
  const keys = { rsa: rsaPair('demo-rsa'), ec: ecPair('demo-ec'), aes: secretKey('demo-aes') };
  const objects = Object.values(keys).flatMap((key) => key.objects);
  const hsms = await Promise.all(['hsm1', 'hsm2'].map((label) => makeHsm(folder.path, label, { objects })));
  process.env.DEMO_PIN = hsms[0].pin;
  token = await VirtualToken.open({
    label: 'demo',
    pin: { env: 'DEMO_PIN' },
    locks: join(folder.path, 'locks'),
    members: hsms.map(({ label, serial, module, env }) => ({ name: label, module, token: { serial }, env })),
    policy: { hangAfter: '1500ms' },
  });
  const workload = await Workload.prepare(token, keys);
  screen.watch(token, workload);
  const callers = Promise.all(Array.from({ length: CALLERS }, (_, caller) => workload.run(caller)));
  await breakThings(token, workload, screen);
  workload.stop();
  await callers;
  summary = workload.summary(token.status());
} finally {
  screen.end();
  await token?.close();
  folder.remove();
}

if (options.json) console.log(JSON.stringify(summary));
else screen.summarize(summary);
process.exitCode = summary.operations > 0 && summary.failed === 0 && summary.wrong === 0 ? 0 : 1;
