// Runs lives of simulated fleets:
//
//   npm run simulate [-- --profile NAME] [--seeds FROM..TO] [--minutes N] [--first] [--log]
//
// Prints the findings of each seed that has some; with `--first` ends at the first of them. `--log` prints what happened,
// which is for one seed. The exit code is 1 if there was a finding.
import { parseArgs } from 'node:util';
import { PROFILES } from './profiles.js';
import { Run } from './run.js';

const { values } = parseArgs({
  options: {
    profile: { type: 'string' },
    seeds: { type: 'string', default: '1..1000' },
    minutes: { type: 'string', default: '60' },
    first: { type: 'boolean', default: false },
    log: { type: 'boolean', default: false },
  },
});
const say = (text: string): void => void process.stdout.write(`${text}\n`);
const [from = 1, to = from] = (values.seeds ?? '').split('..').map(Number);
const names = values.profile === undefined ? Object.keys(PROFILES) : [values.profile];
const end = performance.now() + Number(values.minutes) * 60_000;
let faulty = 0;
for (const name of names) {
  const profile = PROFILES[name];
  if (profile === undefined) throw new Error(`no profile ${name}: ${Object.keys(PROFILES).join(', ')}`);
  const counts = new Map<string, number>();
  const begunAt = performance.now();
  let runs = 0;
  for (let seed = from; seed <= to && performance.now() < end && !(values.first && faulty > 0); seed += 1) {
    runs += 1;
    let result: ReturnType<Run['run']>;
    const run = new Run(seed, profile);
    try {
      result = run.run();
    } catch (error) {
      result = {
        findings: [`crash: ${error instanceof Error ? error.stack : error}`],
        counts: new Map(),
        log: run.log,
      };
    }
    for (const [what, count] of result.counts) counts.set(what, (counts.get(what) ?? 0) + count);
    if (values.log === true) say(result.log.join('\n'));
    if (result.findings.length === 0) continue;
    faulty += 1;
    say(`seed ${seed} of ${name}:\n  ${result.findings.join('\n  ')}`);
  }
  const seconds = (performance.now() - begunAt) / 1000;
  const told = [...counts].sort().map(([what, count]) => `${what} ${count}`);
  say(`${name}: ${runs} seeds, ${(runs / seconds).toFixed(1)} a second; ${told.join(', ')}`);
}
process.exitCode = faulty === 0 ? 0 : 1;
