// Generating keys on all members of a group of two SoftHSM tokens, compared with pkcs11js on one token. SoftHSM writes
// files and waits for the disk.
import pkcs11js from 'pkcs11js';
import { createGroup } from '../../dist/index.js';
import { Bed } from '../lib/bed.js';
import { pace } from '../lib/contest.js';
import { median, quantile, rounded } from '../lib/statistics.js';
import { openPkcs11js } from '../peers/pkcs11js.js';

export const title = 'Generating keys: ms a key';
const paramsEC = Buffer.from('06082a8648ce3d030107', 'hex');
/** Number of keys of each kind per round. */
const TIMES = 5;

export async function run() {
  const bed = await Bed.softhsm('generating', 3);
  try {
    const members = bed.members.slice(0, 2);
    const policy = { deadline: 60_000 };
    await createGroup(bed.configuration(policy, members));
    const token = await bed.open(policy, members);
    const peer = openPkcs11js(bed.members[2], bed.pin, 1);
    const contestants = [...ours(token), ...theirs(peer)];
    const took = contestants.map(() => []);
    for (let round = 0; round < pace.rounds * TIMES; round += 1) {
      for (const [index, { make }] of contestants.entries()) {
        const startedAt = performance.now();
        await make();
        took[index].push(performance.now() - startedAt);
      }
    }
    peer.library.C_Finalize();
    return contestants.map(({ name, key }, index) => ({
      key,
      name,
      median: rounded(median(took[index])),
      longest: rounded(quantile(took[index], 1)),
    }));
  } finally {
    await bed.close();
  }
}

function ours(token) {
  const secret = { token: true, label: 'made', valueLen: 32, encrypt: true };
  const isPublic = { token: true, label: 'made', paramsEC, verify: true };
  const isPrivate = { token: true, private: true, label: 'made', sign: true, extractable: true };
  return [
    { key: 'AES-256', name: 'ours, on 2 members', make: () => token.generateKey('AES_KEY_GEN', secret) },
    {
      key: 'EC P-256',
      name: 'ours, on 2 members',
      make: () => token.generateKeyPair('EC_KEY_PAIR_GEN', isPublic, isPrivate),
    },
  ];
}

function theirs({ library, sessions: [session] }) {
  const attribute = (name, value) => ({ type: pkcs11js[`CKA_${name}`], value });
  const common = [attribute('TOKEN', true), attribute('LABEL', 'made')];
  const aes = { mechanism: pkcs11js.CKM_AES_KEY_GEN };
  const ec = { mechanism: pkcs11js.CKM_EC_KEY_PAIR_GEN };
  const secret = [...common, attribute('VALUE_LEN', 32), attribute('ENCRYPT', true)];
  const isPublic = [...common, attribute('EC_PARAMS', paramsEC), attribute('VERIFY', true)];
  const isPrivate = [...common, attribute('SIGN', true)];
  return [
    { key: 'AES-256', name: 'pkcs11js, on one token', make: () => library.C_GenerateKey(session, aes, secret) },
    {
      key: 'EC P-256',
      name: 'pkcs11js, on one token',
      make: () => library.C_GenerateKeyPair(session, ec, isPublic, isPrivate),
    },
  ];
}
