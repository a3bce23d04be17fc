// Coordinator of a group's processes, commanded by a test: `coordinator.js LABEL [LOCKS]`.
import { readFileSync, writeFileSync } from 'node:fs';
import { LocalCoordinator } from '../../../dist/runtime/coordination/local/local-coordinator.js';
import { monotonicNow } from '../../../dist/runtime/scheduling/clock.js';
import { Driver } from '../../../dist/runtime/scheduling/driver.js';
import { obey } from './commands.js';

/** Longest time that a host's write may take (ms). */
const LONGEST_WRITE = 1000;

const [label, locks] = process.argv.slice(2);
const driver = new Driver();
const coordinator = new LocalCoordinator(locks, label, {
  start: (task) => driver.start(task),
  moved: () => driver.move(),
  longestWrite: () => LONGEST_WRITE,
  report: () => {},
});
const claims = new Map();

/** Claims a name; returns the fence, or nothing if the name is still held after a time (ms). */
async function claim(name, within) {
  const taken = await driver.resultOf(driver.start(coordinator.claim(name, { deadline: monotonicNow() + within })));
  if (taken !== undefined) claims.set(name, taken);
  return taken?.fence;
}

function release(name) {
  claims.get(name).release();
  claims.delete(name);
}

/** Adds 1 to the number in a file, again and again, each time under a claim; returns the fences. */
async function count(name, file, times, within) {
  const fences = [];
  for (let i = 0; i < times; i += 1) {
    fences.push(await claim(name, within));
    const number = Number(readFileSync(file, 'latin1'));
    // Gives other processes time to read the same number.
    await new Promise((resolve) => setImmediate(resolve));
    writeFileSync(file, String(number + 1));
    release(name);
  }
  return fences;
}

const { writer, writerPath, problem } = coordinator;
await obey(
  { writer, writerPath, problem, path: coordinator.locks.path },
  {
    claim,
    release,
    count,
    holderOf: (name) => coordinator.holderOf(name),
    isWriterGone: (name) => coordinator.isWriterGone(name),
    isWriterEnding: (name) => coordinator.isWriterEnding(name),
  },
);
coordinator.close();
