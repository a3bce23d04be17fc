// Group of the soak: its tokens, its configuration file, the applications that have it open, and runs of the tool.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createGroup, generateAdministrationKey } from '../../dist/index.js';
import { Application } from '../support/applications/application.js';
import { until } from '../support/applications/waiting.js';
import { faultyModule } from '../support/faulty/build.js';
import { makeFolder, makeHsm, readToken } from '../support/softhsm.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const tool = join(root, 'dist/bin/pkcs11-ha.js');
const own = /^pkcs11-ha:/u;

/** Limits that notice faults soon, and are long enough for a busy machine. */
const policy = { hangAfter: 1500, writeHangAfter: 6000, deadline: 20_000 };

/** Interval between finds while records are awaited to go (ms). */
const FIND_INTERVAL = 1500;

/** Members that the group begins with. */
export const FIRST_MEMBERS = ['hsm1', 'hsm2'];
/** Member that comes and goes. */
export const THIRD_MEMBER = 'hsm3';

const isHollow = ({ class: objectClass, flags }) => objectClass < 0 || !flags.includes('TOKEN');

export class Bed {
  folder = makeFolder('soak');
  #hsms = new Map();
  #env;
  /** Applications by name. */
  applications = new Map();
  #tools = new Set();

  async form() {
    for (const name of [...FIRST_MEMBERS, THIRD_MEMBER])
      this.#hsms.set(name, await makeHsm(this.folder.path, name, { pin: '648219' }));
    const locks = join(this.folder.path, 'locks');
    this.#env = { ...process.env, PKCS11_HA_LOCKS: locks, PKCS11_HA_SOAK_PIN: '648219' };
    Object.assign(process.env, { PKCS11_HA_LOCKS: locks, PKCS11_HA_SOAK_PIN: '648219' });
    const { publicKey, privateKey } = generateAdministrationKey();
    const key = { file: join(this.folder.path, 'administration-key') };
    writeFileSync(key.file, `${privateKey}\n`, { mode: 0o600 });
    const configuration = {
      label: 'soak',
      administration: { publicKey, key },
      members: FIRST_MEMBERS.map((name) => ({ name, ...this.#select(name) })),
      pin: { env: 'PKCS11_HA_SOAK_PIN' },
      policy,
    };
    await createGroup(configuration);
    writeFileSync(this.file, JSON.stringify(configuration, undefined, 2));
  }

  /** Path of the group's configuration file. */
  get file() {
    return join(this.folder.path, 'group.yaml');
  }

  #path(name, kind) {
    return join(this.folder.path, `${name}.${kind}`);
  }

  #select(name) {
    const { env, module, serial } = this.#hsms.get(name);
    const faulty = { ...env, FAULTY_MODULE: module, FAULTY_CONTROL: this.#path(name, 'control') };
    return { module: faultyModule, token: { serial }, env: faulty };
  }

  /** Arguments with which the tool adds the third member. */
  get addition() {
    const { module, token, env } = this.#select(THIRD_MEMBER);
    const variables = Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]);
    return ['member', 'add', THIRD_MEMBER, '--module', module, '--serial', token.serial, ...variables, '--yes'];
  }

  /** Names of the members in the configuration file. */
  members() {
    const text = readFileSync(this.file, 'utf8');
    return [...this.#hsms].filter(([, { serial }]) => text.includes(serial)).map(([name]) => name);
  }

  /** Starts an application and opens the group in it. */
  async open(name) {
    const application = new Application(name, root, this.#env);
    this.applications.set(name, application);
    await application.ask('open', this.file);
    return application;
  }

  /** Runs the tool; `kill` is called with its process. Resolves with its exit code and output. */
  async run(args, watch = () => undefined) {
    const child = spawn(process.execPath, [tool, ...args, '--config', this.file], {
      env: this.#env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#tools.add(child);
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text) => {
        output += text;
      });
    watch(child);
    const [code, signal] = await once(child, 'close');
    this.#tools.delete(child);
    return { code, signal, output };
  }

  /** Sets the faults of a member; faulty/faulty.c has the syntax. */
  fault(name, ...rules) {
    const control = this.#path(name, 'control');
    writeFileSync(`${control}.new`, rules.map((rule) => `${rule}\n`).join(''));
    renameSync(`${control}.new`, control);
  }

  heal() {
    for (const name of this.#hsms.keys()) rmSync(this.#path(name, 'control'), { force: true });
  }

  /** Reads the applications' objects on a token apart from the group, in an order that does not change. */
  async read(name) {
    const found = await readToken(this.#hsms.get(name));
    const objects = found.filter(({ label }) => !own.test(label));
    return objects.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  }

  /** Waits until members have no intent, journal entry, done record or partial object any more. */
  async untilTidy(names, applications) {
    let left = [];
    let before = Number.POSITIVE_INFINITY;
    const isLess = async () => {
      // Applications tidy up after they have read records, and rather while nobody calls.
      await Promise.all(applications.map((application) => application.ask('find')));
      await sleep(FIND_INTERVAL);
      const found = (await Promise.all(names.map((name) => readToken(this.#hsms.get(name))))).flat();
      left = found.filter((object) => isHollow(object) || /^pkcs11-ha:(?:intent|journal|done) /u.test(object.label));
      return left.length < before;
    };
    for (; before > 0; before = left.length)
      await until(isLess, () => `less than ${before} records are left: ${left.map(({ label }) => label).join(', ')}`);
  }

  /** Ends all programs and deletes the tokens unless they are kept. */
  async close(isKept) {
    this.heal();
    for (const child of this.#tools) child.kill('SIGKILL');
    for (const application of this.applications.values()) {
      application.signal('SIGCONT');
      await application.kill();
    }
    if (!isKept) this.folder.remove();
  }
}
