// Time to open a group, and to find an object, with few and with many objects, compared with pkcs11js on one of the
// tokens. Each measurement runs in a new process.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { secretKey } from '../../test/support/keys.js';
import { Bed } from '../lib/bed.js';
import { pace } from '../lib/contest.js';
import { median, rounded } from '../lib/statistics.js';

export const title = 'Opening, and finding one object by its label: ms, each time in a fresh process';
const COUNTS = [10, 10_000];
const program = fileURLToPath(new URL('../peers/opener.js', import.meta.url));
const start = promisify(execFile);

export async function run({ say }) {
  const rows = [];
  for (const count of COUNTS) {
    say(`${count} objects`);
    const objects = Array.from({ length: count }, (_, index) => secretKey(`key ${index}`)).flatMap(
      (key) => key.objects,
    );
    const bed = await Bed.softhsm('opening', 2, objects);
    try {
      rows.push(...(await open(bed, count)));
    } finally {
      await bed.close();
    }
  }
  return rows;
}

async function open(bed, count) {
  const [{ module, env }] = bed.members;
  const label = `key ${count >> 1}`;
  const file = bed.file({ deadline: 60_000, hangAfter: 20_000 });
  const requests = [
    ['ours', { file, label }],
    ['pkcs11js', { module, pin: bed.pin, label }],
  ];
  const results = requests.map(() => []);
  for (let round = 0; round < pace.rounds; round += 1) {
    for (const [index, [, request]] of requests.entries()) {
      const child = start(process.execPath, [program], { env: { ...process.env, ...env } });
      child.child.stdin.end(JSON.stringify(request));
      results[index].push(JSON.parse((await child).stdout));
    }
  }
  const of = (index, what) => rounded(median(results[index].map((result) => result[what])));
  return requests.map(([name], index) => ({
    objects: count,
    name,
    open: of(index, 'open'),
    'first find': of(index, 'first'),
    'second find': of(index, 'second'),
  }));
}
