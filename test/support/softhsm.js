// SoftHSM tokens that stand for HSMs. Each has a token directory and a configuration of its own, so that only its own
// host process reaches it. Plain JavaScript, because the benches use it too.
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Provisioner } from './provisioner.js';

const candidates = [
  process.env.SOFTHSM2_MODULE,
  '/usr/lib/softhsm/libsofthsm2.so',
  '/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so',
  '/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so',
  '/usr/lib64/softhsm/libsofthsm2.so',
  '/usr/local/lib/softhsm/libsofthsm2.so',
];

/** Returns the path of SoftHSM's library; throws if it is not installed. */
export function softhsmModule() {
  const found = candidates.find((path) => path !== undefined && existsSync(path));
  if (found === undefined) throw new Error('libsofthsm2.so is not installed (Debian: apt-get install softhsm2)');
  return found;
}

/** Makes a temporary folder for one test or bench; `remove` deletes it with its contents. */
export function makeFolder(name) {
  const path = mkdtempSync(join(tmpdir(), `pkcs11-ha-${name}-`));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Writes a SoftHSM configuration for a token directory; returns the environment that names it. */
function configure(directory) {
  const conf = join(directory, 'softhsm2.conf');
  writeFileSync(
    conf,
    `directories.tokendir = ${directory}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n`,
  );
  return { SOFTHSM2_CONF: conf };
}

/** Copies a token as it is now, as a backup of its storage would. */
export function copyHsm(hsm, folder) {
  const directory = mkdtempSync(join(folder, `${hsm.label}-`));
  cpSync(hsm.directory, directory, { recursive: true });
  return { ...hsm, directory, env: configure(directory) };
}

/** Returns the token in a directory that holds one already. */
export function hsmIn(directory, { label, serial, pin, soPin }) {
  return { label, directory, module: softhsmModule(), env: configure(directory), pin, soPin, serial };
}

/** Makes and initialises one token in `folder`, and creates `objects` (see keys.js) on it. */
export async function makeHsm(folder, label, { pin = '648219', soPin = '12345678', objects = [] } = {}) {
  const directory = mkdtempSync(join(folder, `${label}-`));
  const hsm = { label, directory, module: softhsmModule(), env: configure(directory), pin, soPin, serial: '' };
  const { serial } = await provision(hsm, { initialize: true, objects });
  return { ...hsm, serial };
}

/** Process that works on tokens, while there are requests. */
let provisioner;

/** Runs `request` on a token with pkcs11js, in another process, which repeats reads of a half-written token. */
export function provision({ module, label, pin, soPin, env }, request) {
  provisioner ??= new Provisioner(() => {
    provisioner = undefined;
  });
  return provisioner.ask(label, { module, label, pin, soPin, env, ...request });
}

/** Returns all objects on a token, the group's own objects too. */
export async function readToken(hsm) {
  const { found } = await provision(hsm, { read: true });
  return found;
}
