// Check that a former version of this package and this one work on one group at once, before the group is upgraded and
// while it is:
//
//   npm run check:mixed [-- --only TEXT] [--package FOLDER]
//
// Takes the former version out of git, builds it in a temporary folder, and runs the scenarios on SoftHSM tokens of
// test/fixtures. `--package` names a folder in which the former version is built already.
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildFaulty } from '../support/faulty/build.js';
import { memoryFolder } from '../support/memory-folder.js';
import { Bed } from './bed.js';
import { buildPackage, checkOut } from './old-package.js';
import { scenarios } from './scenarios/index.js';

/** Last commit of record format 1, with claims by abstract sockets. */
const COMMIT = 'a26a66c';

const { values } = parseArgs({ options: { only: { type: 'string' }, package: { type: 'string' } } });
const say = (text) => process.stdout.write(`${text}\n`);
const present = fileURLToPath(new URL('../../', import.meta.url));

/** Work that an end of this process leaves to do. */
const cleanups = new Set();
async function cleanUp() {
  for (const each of cleanups) await each();
  cleanups.clear();
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
  process.once(signal, () => void cleanUp().finally(() => process.exit(1)));

/** Runs a scenario on a group of its own; returns true if it succeeds. */
async function succeeds({ name, run }, packages) {
  const startedAt = Date.now();
  const bed = new Bed(packages);
  const close = () => bed.close();
  cleanups.add(close);
  try {
    const told = await run(bed);
    say(`ok: ${name} (${told}; ${((Date.now() - startedAt) / 1000).toFixed(0)} s)`);
    return true;
  } catch (error) {
    say(`FAULT: ${name}: ${error.message.split('\n', 1)[0]}`);
    process.stderr.write(`${error.stack}\n`);
    return false;
  } finally {
    cleanups.delete(close);
    await close();
  }
}

/** Returns the folder of the former version's package, which is built if none is given. */
function formerPackage() {
  if (values.package !== undefined) return values.package;
  const { path, remove } = checkOut(COMMIT);
  cleanups.add(remove);
  buildPackage(path);
  return path;
}

let faults = 0;
try {
  process.env.TMPDIR ??= memoryFolder() ?? tmpdir();
  buildFaulty();
  const packages = { former: formerPackage(), present };
  for (const scenario of scenarios) {
    if (values.only !== undefined && !scenario.name.includes(values.only)) continue;
    if (!(await succeeds(scenario, packages))) faults += 1;
  }
} catch (error) {
  faults += 1;
  say(`FAULT: ${error.message}`);
} finally {
  await cleanUp();
}
process.exitCode = faults === 0 ? 0 : 1;
