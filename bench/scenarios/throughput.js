// Operations a second on token keys: a group of two SoftHSM tokens, compared with other software on one token.
import { Bed } from '../lib/bed.js';
import { contest } from '../lib/contest.js';
import { makeKeys, operations } from '../lib/operations.js';
import { grapheneContestant, openGraphene } from '../peers/graphene.js';
import { inFlight } from '../peers/ours.js';
import { contestantsOf, openPkcs11js } from '../peers/pkcs11js.js';
import { straightContestants } from '../peers/straight.js';

export const title = 'Throughput: a group of two SoftHSM tokens, the others on one of them';
const IN_FLIGHT = [1, 16, 64, 256];

export async function run({ say }) {
  const bed = await Bed.softhsm('throughput', 2, makeKeys());
  try {
    const token = await bed.open();
    const [member] = bed.members;
    const peer = openPkcs11js(member, bed.pin);
    const session = openGraphene(member.module);
    const rows = [];
    for (const operation of operations) {
      say(operation.name);
      const contestants = [
        ...(await Promise.all(IN_FLIGHT.map((count) => inFlight(token, operation, count)))),
        ...contestantsOf(peer, operation),
        grapheneContestant(session, operation),
        ...straightContestants(member, bed.pin, operation),
      ];
      for (const row of await contest(contestants)) rows.push({ operation: operation.name, ...row });
    }
    peer.library.C_Finalize();
    return rows;
  } finally {
    await bed.close();
  }
}
