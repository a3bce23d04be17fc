// Feeds mutated inputs to the readers of what comes from outside:
//
//   node test/fuzz/main.js [--target NAME] [--inputs N] [--seconds N] [--seed N]
//
// The corpus of a target is in corpus/NAME. An input that brings an error of another class than the reader's own, or
// takes long, is written to found/, and the exit code is 1. The seed is printed: the same one brings the same inputs.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Mutator } from './mutator.js';
import { targets } from './targets.js';

const here = fileURLToPath(new URL('.', import.meta.url));
/** Longest time for one input (ms): above it a reader could stop the event loop. */
const LONGEST = 500;
/** Number of tries of an input that takes longer. */
const TRIES = 3;
/** Number of inputs between looks at the clock. */
const BATCH = 200;

const { values } = parseArgs({
  options: {
    target: { type: 'string' },
    inputs: { type: 'string', default: '100000' },
    seconds: { type: 'string', default: '3600' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
  },
});
const chosen = Object.entries(targets).filter(([name]) => values.target === undefined || name === values.target);
if (chosen.length === 0) throw new Error(`no target ${values.target}: ${Object.keys(targets).join(', ')}`);

/** Returns the fault that an input brings; undefined if there is none. */
function faultOf(target, input) {
  let took = Number.POSITIVE_INFINITY;
  // Tries a slow input again: a machine that paused is no fault of the reader.
  for (let tries = 0; took > LONGEST && tries < TRIES; tries += 1) {
    const startedAt = performance.now();
    try {
      target.read(input);
    } catch (error) {
      if (!target.expects(error)) return error.stack ?? String(error);
    }
    took = Math.min(took, performance.now() - startedAt);
  }
  return took > LONGEST ? `took ${took.toFixed(0)} ms` : undefined;
}

let faults = 0;
for (const [name, target] of chosen) {
  const folder = join(here, 'corpus', name);
  const corpus = readdirSync(folder).map((file) => readFileSync(join(folder, file)));
  const mutator = new Mutator(Number(values.seed), corpus, target.words);
  const until = performance.now() + (Number(values.seconds) * 1000) / chosen.length;
  let count = 0;
  for (; count < Number(values.inputs); count += 1) {
    if (count % BATCH === 0 && performance.now() > until) break;
    const input = count < corpus.length ? corpus[count] : mutator.next();
    const fault = faultOf(target, input);
    if (fault === undefined) continue;
    faults += 1;
    const found = join(here, 'found');
    mkdirSync(found, { recursive: true });
    writeFileSync(join(found, `${name}-${values.seed}-${count}`), input);
    process.stdout.write(`FAULT: ${name}: input ${count} of seed ${values.seed}: ${fault}\n`);
  }
  process.stdout.write(`${name}: ${count} inputs, seed ${values.seed}\n`);
}
process.exitCode = faults === 0 ? 0 : 1;
