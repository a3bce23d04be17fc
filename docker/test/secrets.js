// The secrets of the stack: PINs, and a key with a certificate of its own for the client and for each HSM. An HSM serves
// the clients whose certificates are registered with it, and a client trusts the certificates of its HSMs.
import { randomInt } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './run.js';

const DAYS = 3650;
const pin = () => String(randomInt(10 ** 11, 10 ** 12));

/** A key and a certificate for each name, PEM, made by openssl in the HSM's image: nothing has to be installed for it. */
async function certify(names) {
  const request = `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days ${DAYS}`;
  const each = `for name; do openssl ${request} -subj "/CN=$name" -keyout -; done`;
  // What it prints is nobody else's business: no log of it is kept.
  const options = ['--rm', '--log-driver', 'none', '--entrypoint', 'bash', 'pkcs11-ha-hsm'];
  const pem = await run('docker', ['run', ...options, '-ec', each, 'bash', ...names]);
  const parts = (kind) => pem.match(new RegExp(`-----BEGIN ${kind}-----[^]*?-----END ${kind}-----\n`, 'gu')) ?? [];
  const [keys, certificates] = [parts('PRIVATE KEY'), parts('CERTIFICATE')];
  return names.map((name, index) => ({ name, key: keys[index], certificate: certificates[index] }));
}

/**
 * Makes what is not there yet, in a folder that only its owner can enter. The files themselves can be read by everybody:
 * in the containers they are read by users who are not root.
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
  // The clients that are registered: the stranger is not.
  if (!existsSync(join(folder, 'clients'))) write('clients', readFileSync(join(folder, 'client_certificate')));
}
