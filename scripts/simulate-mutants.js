// Proves that simulations find faults: puts each fault of test/simulation/mutants.ts into the source text, one at a time,
// and runs seeds until one brings a finding. Prints a table; the exit code is 1 if a fault was not found.
//
//   npm run simulate:mutants [-- SEEDS [PART OF A NAME]]
import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const [seeds = '400', part = ''] = process.argv.slice(2);
const common = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  packages: 'external',
  external: ['#*'],
  logLevel: 'warning',
};

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

await build({ ...common, entryPoints: ['test/simulation/mutants.ts'], outfile: 'build/simulation/mutants.mjs' });
const { MUTANTS } = await import('../build/simulation/mutants.mjs');
let missed = 0;
for (const { name, profile, edits } of MUTANTS.filter((each) => each.name.includes(part))) {
  const outfile = 'build/simulation/mutant.mjs';
  await build({ ...common, entryPoints: ['test/simulation/main.ts'], outfile, plugins: [mutating(edits)] });
  const args = [outfile, '--profile', profile, '--seeds', `1..${seeds}`, '--first'];
  const { stdout } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8', timeout: 600_000 });
  const [, seed, finding] = /^seed (\d+) of .*\n {2}(.*)/u.exec(stdout) ?? [];
  if (seed === undefined) missed += 1;
  const result = seed === undefined ? `not found in ${seeds} seeds` : `seed ${seed}: ${finding?.slice(0, 80)}`;
  console.log(`| ${name} | ${profile} | ${result} |`);
}
process.exitCode = missed === 0 ? 0 : 1;
