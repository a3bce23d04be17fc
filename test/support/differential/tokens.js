// Makes equal keys on one token for pkcs11js and on the two tokens of a group.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ecPair, rsaPair, secretKey } from '../keys.js';
import { makeHsm } from '../softhsm.js';

/** Returns all objects that the script needs. */
export function makeObjects() {
  const wrapper = secretKey('wrapper', Buffer.from([5])).objects.map((each) => ({ ...each, WRAP: true, UNWRAP: true }));
  const inside = secretKey('kept inside', Buffer.from([6])).objects.map((each) => ({ ...each, EXTRACTABLE: false }));
  const [asking] = rsaPair('asking', Buffer.from([7])).objects;
  return [
    ...secretKey('aes', Buffer.from([1])).objects,
    ...secretKey('mac', Buffer.from([2]), { type: 'GENERIC_SECRET' }).objects,
    ...secretKey('des3', Buffer.from([8]), { type: 'DES3', value: desKey }).objects.map((each) => ({
      ...each,
      ENCRYPT: true,
      DECRYPT: true,
    })),
    ...rsaPair('rsa', Buffer.from([3])).objects,
    ...ecPair('ec', Buffer.from([4])).objects,
    ...wrapper,
    ...inside,
    { ...asking, ALWAYS_AUTHENTICATE: true },
  ];
}

const desKey = Buffer.from('0123456789abcdef23456789abcdef01456789abcdef0123', 'hex');

/** Makes one token for pkcs11js; returns what its process needs. */
export async function makeSingle(folder, objects) {
  const hsm = await makeHsm(folder, 'single', { objects });
  return { path: hsm.module, pin: hsm.pin, env: hsm.env };
}

/** Makes two tokens and a group's configuration file; `more` gives additions to each member. */
export async function makeMembers(folder, objects, more = () => ({})) {
  const hsms = await Promise.all(['hsm1', 'hsm2'].map((label) => makeHsm(folder, label, { objects })));
  const configuration = {
    label: 'differential',
    pin: { env: 'DIFFERENTIAL_PIN' },
    policy: { freshness: 20, hangAfter: 400, writeHangAfter: 10_000, deadline: 20_000 },
    members: hsms.map((hsm) => ({
      name: hsm.label,
      module: hsm.module,
      token: { serial: hsm.serial },
      env: hsm.env,
      ...more(hsm),
    })),
  };
  const path = join(folder, 'group.yaml');
  // Writes JSON, which is also YAML.
  writeFileSync(path, JSON.stringify(configuration));
  return { hsms, configuration, path, pin: hsms[0].pin, env: { DIFFERENTIAL_PIN: hsms[0].pin } };
}
