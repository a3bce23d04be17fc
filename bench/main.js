// Measures a group and its alternatives in turns within one run:
//
//   npm run bench -- [--only NAME,NAME…] [--quick] [--json FILE]
import { readdirSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { judgeGoals } from './goals.js';
import { pace } from './lib/contest.js';
import { describeMachine, printGoals, printRows } from './lib/output.js';

const { values } = parseArgs({
  options: { only: { type: 'string' }, quick: { type: 'boolean' }, json: { type: 'string' } },
});
if (values.quick) Object.assign(pace, { rounds: 2, seconds: 0.1 });

// Checks the names before the first scenario runs.
const names = readdirSync(new URL('./scenarios/', import.meta.url)).map((file) => file.replace(/\.js$/u, ''));
const wanted = values.only?.split(',') ?? names;
const unknown = wanted.filter((name) => !names.includes(name));
if (unknown.length > 0) {
  process.stderr.write(`unknown scenario: ${unknown.join(', ')}; choose from ${names.join(', ')}\n`);
  process.exit(2);
}

const results = { machine: describeMachine(), scenarios: {} };
for (const name of names.filter((each) => wanted.includes(each))) {
  const { run, title } = await import(`./scenarios/${name}.js`);
  process.stdout.write(`\n${title}\n`);
  const say = (text) => process.stderr.write(`  ${text}\n`);
  const rows = await run({ say });
  results.scenarios[name] = { title, rows };
  printRows(rows);
}
results.goals = judgeGoals(results.scenarios);
printGoals(results.goals);
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`);
