import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Application } from '../support/applications/application.js';
import { until } from '../support/applications/waiting.js';
import { faultyModule } from '../support/faulty/build.js';
import { readFixture, unpackFixture } from '../support/fixture.js';
import { makeFolder, makeHsm, readToken } from '../support/softhsm.js';

const own = /^pkcs11-ha:/u;

/** Limits that are long enough for a busy machine. */
const policy = { hangAfter: 1500, writeHangAfter: 8000, deadline: 30_000 };

/** Names of the group's members. */
export const MEMBERS = ['hsm1', 'hsm2'];

/** Versions of the package; each may open a group of record format 1. */
export const VERSIONS = ['former', 'present'];

/** Keys and objects that the fixture's group has. */
export const fixture = readFixture('format-1');

const isHollow = ({ class: objectClass, flags }) => objectClass < 0 || !flags.includes('TOKEN');

/** Group of record format 1 on tokens of its own, and the applications that have it open. */
export class Bed {
  #folder = makeFolder('mixed');
  #applications = new Set();
  #env;
  #packages;
  #hsms = new Map();

  /** Unpacks the tokens; `packages` has the folder of each version's package. */
  constructor(packages) {
    this.#packages = packages;
    for (const hsm of unpackFixture('format-1', this.#folder.path)) this.#hsms.set(hsm.label, hsm);
    const locks = join(this.#folder.path, 'locks');
    this.#env = { ...process.env, PKCS11_HA_LOCKS: locks, PKCS11_HA_MIXED_PIN: fixture.pin };
  }

  #file(version, name, kind) {
    return join(this.#folder.path, `${name}.${version}.${kind}`);
  }

  /** Returns the part of a configuration that selects a token, behind the faulty module. */
  #select(version, name) {
    const { env, module, serial } = this.#hsms.get(name);
    const [FAULTY_CONTROL, FAULTY_LOG] = ['control', 'log'].map((kind) => this.#file(version, name, kind));
    const faulty = { ...env, FAULTY_MODULE: module, FAULTY_CONTROL, FAULTY_LOG };
    return { module: faultyModule, token: { serial }, env: faulty };
  }

  /** Starts an application and opens the group, or a part of its members, in it. */
  async open(version, members = MEMBERS) {
    const application = new Application(version, this.#packages[version], this.#env);
    this.#applications.add(application);
    const selected = members.map((name) => ({ name, ...this.#select(version, name) }));
    await application.ask('open', {
      label: 'test group',
      members: selected,
      pin: { env: 'PKCS11_HA_MIXED_PIN' },
      policy,
    });
    return application;
  }

  /** Opens the group and waits until all members serve. */
  async openWhole(version) {
    const application = await this.open(version);
    await application.untilState(MEMBERS, 'active');
    return application;
  }

  /** Makes a token for backups; returns the input of `backup` and `restore`. */
  async makeBackupToken(version) {
    const { pin, soPin } = fixture;
    if (!this.#hsms.has('backup')) this.#hsms.set('backup', await makeHsm(this.#folder.path, 'backup', { pin, soPin }));
    return { ...this.#select(version, 'backup'), pin: { env: 'PKCS11_HA_MIXED_PIN' } };
  }

  /** Sets the faults of a member in one version's applications; faulty/faulty.c has the syntax. */
  fault(version, name, ...rules) {
    const control = this.#file(version, name, 'control');
    writeFileSync(`${control}.new`, rules.map((rule) => `${rule}\n`).join(''));
    renameSync(`${control}.new`, control);
  }

  /** Takes the faults off all members in one version's applications, or in all. */
  heal(...versions) {
    for (const version of versions.length === 0 ? VERSIONS : versions)
      for (const name of MEMBERS) rmSync(this.#file(version, name, 'control'), { force: true });
  }

  /** Returns the faults that a member has met in one version's applications, as lines `PID FUNCTION ACTION`. */
  met(version, name) {
    const log = this.#file(version, name, 'log');
    return existsSync(log) ? readFileSync(log, 'utf8').split('\n').filter(Boolean) : [];
  }

  /** Takes a member away from applications: ends its hosts, and lets no other start. */
  async lose(name, ...applications) {
    for (const { version } of applications) this.fault(version, name, 'C_Initialize return=0x30');
    for (const application of applications) {
      await application.killHost(name);
      await application.untilState([name], 'down');
    }
  }

  /** Reads the applications' objects on a token apart from the group, in an order that does not change. */
  async read(name) {
    const found = await readToken(this.#hsms.get(name));
    const objects = found.filter(({ label }) => !own.test(label));
    return objects.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  }

  /**
   * Waits until members have no intent, journal entry, done record or partial object any more. Has applications find
   * objects meanwhile: they tidy up when they read records.
   */
  async untilTidy(applications) {
    for (const name of MEMBERS) {
      let left = [];
      const isTidy = async () => {
        await Promise.all(applications.map((application) => application.ask('find')));
        const found = await readToken(this.#hsms.get(name));
        left = found.filter((object) => isHollow(object) || /^pkcs11-ha:(?:intent|journal|done) /u.test(object.label));
        return left.length === 0;
      };
      await until(isTidy, () => `${name} is tidy: ${left.map(({ label }) => label).join(', ')}`);
    }
  }

  /** Ends all applications and deletes the tokens. */
  async close() {
    this.heal();
    await Promise.all([...this.#applications].map((application) => application.kill()));
    this.#folder.remove();
  }
}
