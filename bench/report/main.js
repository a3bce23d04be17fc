// Writes docs/benchmarks.md and its charts from the results of both benches:
//
//   npm run bench:report                                      runs both benches first: about twenty minutes
//   node bench/report/main.js BENCH.json FAILOVER.json        uses existing results
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { charts } from './charts.js';
import { page } from './page.js';

const [bench, failover] = process.argv.slice(2).map((path) => JSON.parse(readFileSync(path, 'utf8')));
if (failover === undefined) {
  process.stderr.write('missing results; usage: node bench/report/main.js BENCH.json FAILOVER.json\n');
  process.exit(2);
}
const docs = new URL('../../docs/', import.meta.url);
mkdirSync(new URL('benchmarks/', docs), { recursive: true });
for (const [name, svg] of Object.entries(charts(bench, failover)))
  writeFileSync(new URL(`benchmarks/${name}.svg`, docs), svg);
writeFileSync(new URL('benchmarks.md', docs), page(bench, failover));
