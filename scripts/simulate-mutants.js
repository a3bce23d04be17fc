// Proves that simulations find faults: puts each fault of test/simulation/mutants.ts into the source text, one at a time,
// and runs seeds until one brings a finding. Prints a table; the exit code is 1 if a fault was not found.
//
//   npm run simulate:mutants [-- SEEDS [PART OF A NAME]]
import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { bundle, root } from './bundle.js';

const [seeds = '400', part = ''] = process.argv.slice(2);
/** Longest time for the seeds of one fault (ms); a fault can make a life endless. */
const LONGEST = 300_000;

/** Returns the plug-in that puts the edits into the files; throws if a file does not have the text exactly once. */
function mutating(edits) {
  return {
    name: 'mutating',
    setup: ({ onLoad }) => {
      // The filter is read by Go, which has no flag u.
      onLoad({ filter: /\.ts$/ }, async ({ path }) => {
        let contents = await readFile(path, 'utf8');
        for (const { file, from, to } of edits) {
          if (!path.endsWith(file)) continue;
          if (contents.split(from).length !== 2) throw new Error(`${file} does not have once: ${from}`);
          contents = contents.replace(from, () => to);
        }
        return { contents, loader: 'ts' };
      });
    },
  };
}

/** Returns the first seed from a number on with a finding, and the finding; undefined if there is none. */
function firstFinding(file, profile, from, to) {
  const args = [file, '--profile', profile, '--seeds', `${from}..${to}`, '--first'];
  const { stdout, error } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8', timeout: LONGEST });
  if (error !== undefined) return { seed: undefined, finding: 'a life did not end' };
  const [, seed, finding = ''] = /^seed (\d+) of .*\n {2}(.*)/u.exec(stdout) ?? [];
  return seed === undefined ? undefined : { seed: Number(seed), finding };
}

/** Returns how a fault was found, without seeds that bring a finding in the tree as it is. */
function provenBy(profile) {
  for (let from = 1; from <= Number(seeds); ) {
    const found = firstFinding(MUTANT, profile, from, seeds);
    if (found?.seed === undefined) return found?.finding;
    const { seed, finding } = found;
    if (firstFinding(TREE, profile, seed, seed) === undefined) return `seed ${seed}: ${finding.slice(0, 80)}`;
    from = seed + 1;
  }
  return undefined;
}

const TREE = 'build/simulation/main.mjs';
const MUTANT = 'build/simulation/mutant.mjs';
await bundle('test/simulation/mutants.ts', 'build/simulation/mutants.mjs');
await bundle('test/simulation/main.ts', TREE);
const { MUTANTS } = await import('../build/simulation/mutants.mjs');
for (const { name, profile, edits } of MUTANTS.filter((each) => each.name.includes(part))) {
  await bundle('test/simulation/main.ts', MUTANT, [mutating(edits)]);
  const proof = provenBy(profile);
  if (proof === undefined) process.exitCode = 1;
  console.log(`| ${name} | ${profile} | ${proof ?? `not found in ${seeds} seeds`} |`);
}
