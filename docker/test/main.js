// Test of two network HSMs, a spare HSM and a service in containers, with outages of containers:
//
//   npm run docker:test [-- --only TEXT] [--json FILE] [--only-build | --no-build]
//
// Builds, starts, runs the scenarios and tears down, also after a failure or an interruption. If there is no Docker
// API, prints that the test is skipped.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { findEngine } from './engine.js';
import { IMAGES, inspect } from './images.js';
import { scenarios } from './scenarios.js';
import { Stack } from './stack.js';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    json: { type: 'string' },
    'only-build': { type: 'boolean' },
    'no-build': { type: 'boolean' },
  },
});
const say = (text) => process.stdout.write(`${text}\n`);

const engine = findEngine();
if (engine.missing !== undefined) {
  say(`docker:test is skipped: ${engine.missing}`);
  process.exit(0);
}

const secrets = mkdtempSync(join(tmpdir(), 'pkcs11-ha-secrets-'));
const stack = new Stack(engine, `pkcs11-ha-test-${process.pid}`, secrets);
const results = [];
let failures = 0;

let tornDown;
/** Removes containers, secrets and the API that was started; runs once. */
const tearDown = () => {
  tornDown ??= stack
    .down()
    .catch((error) => {
      failures += 1;
      say(error.message);
    })
    .then(() => {
      rmSync(secrets, { recursive: true, force: true });
      engine.release();
    });
  return tornDown;
};
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
  process.once(signal, async () => {
    await tearDown();
    process.exit(1);
  });

/** Describes a scenario's result: number of operations, the longest one, and the time that the member was away. */
function describe({ operations, failed, longest, out, back }) {
  const parts = [
    operations === undefined ? '' : `${operations} operations, ${failed} failed, longest ${longest} ms`,
    out === undefined ? '' : `out of rotation after ${out} ms`,
    back === undefined ? '' : `back after ${back} ms`,
  ];
  return parts.filter((part) => part !== '').join('; ');
}

async function perform({ name, run }) {
  const startedAt = Date.now();
  try {
    const result = await run(stack);
    results.push({ name, passed: true, seconds: (Date.now() - startedAt) / 1000, ...result });
    say(`passed: ${name} (${describe(result)})`);
  } catch (error) {
    failures += 1;
    results.push({ name, passed: false, error: error.message });
    say(`FAILED: ${name}\n${error.message}`);
    for (const service of ['app', 'hsm1', 'hsm2', 'hsm3']) say(await stack.logs(service).catch(String));
    say(JSON.stringify(await stack.ask('report').catch(String)));
  }
}

async function performAll() {
  await stack.up();
  await stack.untilServing();
  await Promise.all(['hsm1', 'hsm2'].map((hsm) => stack.untilState(hsm, ['active'])));
  for (const scenario of scenarios) {
    if (failures === 0 && (values.only === undefined || scenario.name.includes(values.only))) await perform(scenario);
  }
  for (const image of values.only === undefined ? IMAGES : []) {
    const { megabytes, user, layers } = await inspect(image, secrets);
    say(`${image}: ${megabytes} MB, runs as ${user}, no secrets in its ${layers} layers`);
    results.push({ name: image, megabytes });
  }
}

try {
  if (!values['no-build']) await stack.build(say);
  if (!values['only-build']) await performAll();
} catch (error) {
  failures += 1;
  say(error.stack);
} finally {
  await tearDown();
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`);
process.exitCode = failures === 0 ? 0 : 1;
