// Writes events to an HA log in a process of its own: `log-writer.js CONFIGURATION NAME COUNT END`.
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { HaLog } from '../../../dist/runtime/log/ha-log.js';

const [configuration, name, count, end] = process.argv.slice(2);
const log = new HaLog(JSON.parse(configuration), name);
process.stdout.write('ready\n');
await once(process.stdin, 'data');
for (let number = 0; number < Number(count); number += 1) {
  log.write({ type: 'member', member: name, from: 'active', to: 'down', reason: String(number) }, Date.now());
  // Leaves some batches to the event loop, and lets others fill up at once.
  if (number % 250 < 100) await turn();
}
// Leaves at once for `exit`; for other ends the process ends by itself.
if (end === 'exit') process.exit();
if (end === 'close') log.close();
process.stdin.destroy();
