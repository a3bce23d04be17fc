// Test bed of the benches: new SoftHSM tokens, or modules that simulate other HSMs, as members of one group.
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VirtualToken } from '../../dist/index.js';
import { buildFaulty, faultyModule } from '../../test/support/faulty/build.js';
import { makeFolder, makeHsm } from '../../test/support/softhsm.js';
import { buildEmpty } from '../modules/build.js';
import { TokenServer } from './token-server.js';

const PIN = 'PKCS11_HA_BENCH_PIN';

/** Members and the groups opened on them; `close` closes and removes everything. */
export class Bed {
  #toClose = [];

  constructor(folder, members, pin) {
    this.folder = folder;
    this.members = members;
    this.pin = pin;
    process.env[PIN] = pin;
  }

  /** Makes SoftHSM tokens, each with these objects. */
  static async softhsm(name, count, objects = []) {
    const folder = makeFolder(`bench-${name}`);
    const names = Array.from({ length: count }, (_, index) => `hsm${index + 1}`);
    const hsms = await Promise.all(names.map((label) => makeHsm(folder.path, label, { objects })));
    const members = hsms.map(({ label, serial, module, env }) => ({ name: label, module, token: { serial }, env }));
    return new Bed(folder, members, hsms[0].pin);
  }

  /** Makes SoftHSM tokens behind the faulty module, which `fault` and `heal` control. */
  static async faulty(name, count, objects) {
    const bed = await Bed.softhsm(name, count, objects);
    bed.members = bed.members.map((member) => ({
      ...member,
      ...faulty(bed.folder, member.name, member.module, member.env),
    }));
    return bed;
  }

  /** Makes SoftHSM tokens, each behind its own `p11-kit server`, as HSMs on the network. */
  static async remote(name, count, objects) {
    const bed = await Bed.softhsm(name, count, objects);
    bed.servers = new Map();
    bed.members = await Promise.all(
      bed.members.map(async (member) => {
        const server = new TokenServer(member, bed.folder.path);
        await server.start();
        bed.servers.set(member.name, server);
        return { ...member, module: server.module, env: server.clientEnv };
      }),
    );
    return bed;
  }

  /** Sets a member's faults by a rule of test/support/faulty/faulty.c. */
  fault(name, rule) {
    const { env } = this.members.find((member) => member.name === name);
    writeFileSync(`${env.FAULTY_CONTROL}.new`, `${rule}\n`);
    renameSync(`${env.FAULTY_CONTROL}.new`, env.FAULTY_CONTROL);
  }

  /** Removes the faults of all members. */
  heal() {
    for (const { env } of this.members) rmSync(env.FAULTY_CONTROL ?? '', { force: true });
  }

  /** Returns the number of faults on a member so far. */
  faultsOf(name) {
    const { env } = this.members.find((member) => member.name === name);
    return existsSync(env.FAULTY_LOG) ? readFileSync(env.FAULTY_LOG, 'latin1').split('\n').length - 1 : 0;
  }

  /** Makes tokens of the module that does nothing. With a service time (ms), each C_Sign takes that time. */
  static empty(name, count, { serviceTime, lanes } = {}) {
    const folder = makeFolder(`bench-${name}`);
    const module = buildEmpty();
    const members = Array.from({ length: count }, (_, index) => {
      const serial = `empty${index + 1}`;
      const env = { EMPTY_SERIAL: serial };
      const more = lanes === undefined ? {} : { lanes };
      if (serviceTime === undefined) return { name: serial, module, token: { serial }, env, ...more };
      return { name: serial, ...slowed(folder, serial, module, env, serviceTime), token: { serial }, ...more };
    });
    return new Bed(folder, members, '0000');
  }

  configuration(policy = {}, members = this.members) {
    return { label: 'bench', pin: { env: PIN }, members, policy };
  }

  /** Writes the group's configuration to a file; returns its path. */
  file(policy = {}) {
    const path = join(this.folder.path, 'group.yaml');
    // JSON is valid YAML.
    writeFileSync(path, JSON.stringify(this.configuration(policy)));
    return path;
  }

  async open(policy, members) {
    const token = await VirtualToken.open(this.configuration(policy, members));
    this.#toClose.push(token);
    return token;
  }

  /** Registers an object whose `close` runs when the bed closes. */
  closeLater(opened) {
    this.#toClose.push(opened);
  }

  async close() {
    await Promise.all(this.#toClose.map((token) => token.close()));
    await Promise.all([...(this.servers?.values() ?? [])].map((server) => server.kill()));
    this.folder.remove();
    delete process.env[PIN];
  }
}

/** Returns the process ids of a token's hosts. */
export const hostsOf = (token) => token.status().members.flatMap(({ pid }) => (pid === undefined ? [] : [pid]));

/** Puts a member's module behind the faulty module, with its own control file. */
function faulty(folder, name, module, env) {
  buildFaulty();
  const control = join(folder.path, `${name}.control`);
  const log = join(folder.path, `${name}.log`);
  return {
    module: faultyModule,
    env: { ...env, FAULTY_MODULE: module, FAULTY_CONTROL: control, FAULTY_LOG: log },
  };
}

function slowed(folder, name, module, env, serviceTime) {
  const wrapped = faulty(folder, name, module, env);
  writeFileSync(wrapped.env.FAULTY_CONTROL, `C_Sign delay=${serviceTime}\n`);
  return wrapped;
}
