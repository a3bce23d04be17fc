// Secrets of the stack: PINs, and a key with its own certificate for the client and for each HSM. An HSM serves
// registered certificates only, and a client trusts the certificates of its HSMs.
import { randomInt } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './run.js';

/** Validity of a certificate (number of days). */
const DAYS = 3650;
const pin = () => String(randomInt(10 ** 11, 10 ** 12));

/** Makes a key and a certificate for each name (PEM), by openssl in the HSM's image, so that no host needs openssl. */
async function certify(names) {
  const request = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days ${DAYS}`;
  const each = `for name; do openssl ${request} -subj "/CN=$name" -keyout -; done`;
  // Turns off the container's log, because the output holds private keys.
  const options = ['--rm', '--log-driver', 'none', '--entrypoint', 'bash', 'pkcs11-ha-hsm'];
  const pem = await run('docker', ['run', ...options, '-ec', each, 'bash', ...names]);
  const parts = (kind) => pem.match(new RegExp(`-----BEGIN ${kind}-----[^]*?-----END ${kind}-----\n`, 'gu')) ?? [];
  const [keys, certificates] = [parts('PRIVATE KEY'), parts('CERTIFICATE')];
  return names.map((name, index) => ({ name, key: keys[index], certificate: certificates[index] }));
}

/**
 * Makes the missing secrets, in a folder that only its owner can enter. The files are readable by all users, because
 * the containers' users are not root.
 */
export async function makeSecrets(folder, hsms) {
  mkdirSync(folder, { recursive: true });
  chmodSync(folder, 0o700);
  const write = (name, content) => writeFileSync(join(folder, name), content, { mode: 0o444 });
  for (const name of ['hsm_pin', 'hsm_so_pin']) if (!existsSync(join(folder, name))) write(name, `${pin()}\n`);
  const missing = [...hsms, 'client', 'stranger'].filter((name) => !existsSync(join(folder, `${name}_certificate`)));
  for (const { name, key, certificate } of missing.length === 0 ? [] : await certify(missing)) {
    write(`${name}_key`, key);
    write(`${name}_certificate`, certificate);
  }
  // Registers the client, and not the stranger.
  if (!existsSync(join(folder, 'clients'))) write('clients', readFileSync(join(folder, 'client_certificate')));
}
