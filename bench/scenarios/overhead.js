// Cost of a call to a token that does nothing.
import { Bed, hostsOf } from '../lib/bed.js';
import { callFor, callSyncFor, contest } from '../lib/contest.js';
import { childHosts } from '../lib/processor-time.js';
import { inFlight, openFace } from '../peers/ours.js';
import { contestantsOf, openPkcs11js, syncCall } from '../peers/pkcs11js.js';

export const title = 'Overhead: a module that does nothing, HMAC of 32 bytes';
export const empty = {
  name: 'empty',
  verb: 'sign',
  key: 'key',
  isPair: false,
  mechanism: 0x251,
  data: Buffer.alloc(32, 5),
  size: 32,
};

export async function run() {
  const bed = Bed.empty('overhead', 2);
  try {
    const token = await bed.open();
    const peer = openPkcs11js(bed.members[0], bed.pin);
    const contestants = [
      ...(await Promise.all([1, 16, 64, 256].map((count) => inFlight(token, empty, count)))),
      ...contestantsOf(peer, empty),
      { name: 'a promise', round: (seconds) => callFor(seconds, 64, async () => undefined) },
    ];
    const rows = await contest(contestants);
    peer.library.C_Finalize();
    return [...rows, ...(await runSynchronous(bed, hostsOf(token)))];
  } finally {
    await bed.close();
  }
}

/**
 * Measures synchronous calls separately: an open pkcs11js API makes the process track all promises, which costs time.
 */
async function runSynchronous(bed, known) {
  const face = openFace(bed.file(), bed.pin);
  try {
    const hosts = childHosts().filter((pid) => !known.includes(pid));
    const call = syncCall(face, empty);
    return await contest([{ name: 'ours, synchronous', round: async (seconds) => callSyncFor(seconds, call, hosts) }]);
  } finally {
    face.library.C_Finalize();
  }
}
