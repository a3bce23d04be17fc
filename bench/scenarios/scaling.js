// Scaling with members on the network: HSMs with a fixed service time, one operation at a time in each session.
import { Bed } from '../lib/bed.js';
import { contest } from '../lib/contest.js';
import { inFlight } from '../peers/ours.js';
import { empty } from './overhead.js';

export const title = 'Scaling: HSMs that take 2 ms for an operation, 2 sessions each, 64 calls in flight';

export async function run() {
  const bed = Bed.empty('scaling', 8, { serviceTime: 2, lanes: 2 });
  try {
    const contestants = [];
    for (const count of [1, 2, 4, 8]) {
      const token = await bed.open({}, bed.members.slice(0, count));
      const contestant = await inFlight(token, empty, 64);
      contestants.push({ ...contestant, name: `${count} member${count === 1 ? '' : 's'}` });
    }
    return await contest(contestants);
  } finally {
    await bed.close();
  }
}
