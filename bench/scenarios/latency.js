// Latency of a synchronous call through pkcs11js's API: on a group of two SoftHSM tokens, and directly on one of them.
import { Bed } from '../lib/bed.js';
import { callSyncFor, contest } from '../lib/contest.js';
import { makeKeys, operationOf } from '../lib/operations.js';
import { childHosts } from '../lib/processor-time.js';
import { openFace } from '../peers/ours.js';
import { openPkcs11js, syncCall } from '../peers/pkcs11js.js';

export const title = 'Synchronous latency through the pkcs11js face';

export async function run({ say }) {
  const bed = await Bed.softhsm('latency', 2, makeKeys());
  try {
    const face = openFace(bed.file(), bed.pin);
    const hosts = childHosts();
    const peer = openPkcs11js(bed.members[0], bed.pin, 1);
    const rows = [];
    for (const name of ['ECDSA P-256', 'AES-256-CBC 1 KiB', 'HMAC-SHA256', 'RSA-2048', 'random 32 B']) {
      say(name);
      const operation = operationOf(name);
      const [ours, theirs] = [syncCall(face, operation), syncCall(peer, operation)];
      const contestants = [
        { name: 'ours', round: async (seconds) => callSyncFor(seconds, ours, hosts) },
        { name: 'pkcs11js sync', round: async (seconds) => callSyncFor(seconds, theirs) },
      ];
      for (const row of await contest(contestants)) rows.push({ operation: name, ...row });
    }
    face.library.C_Finalize();
    peer.library.C_Finalize();
    return rows;
  } finally {
    await bed.close();
  }
}
