// Mishaps of the applications, their hosts, the members and the tool during a round.
import { setTimeout as sleep } from 'node:timers/promises';
import { FIRST_MEMBERS, THIRD_MEMBER } from './bed.js';

const below = (count) => Math.floor(Math.random() * count);
const oneOf = (list) => list[below(list.length)];

/** All mishaps. */
export const MISHAPS = [
  'killHost',
  'stopHost',
  'killApplication',
  'stopApplication',
  'awayMember',
  'recover',
  'synchronize',
  'membership',
  'status',
];

export class Mishaps {
  counts = {};
  /** Faults: texts that begin with their kind. */
  faults = [];
  #bed;
  #kinds;
  #restart;

  /** `kinds` may happen. `restart` opens an application that was killed, and has it work on. */
  constructor(bed, kinds, restart) {
    this.#bed = bed;
    this.#kinds = kinds;
    this.#restart = restart;
  }

  #counted(name) {
    this.counts[name] = (this.counts[name] ?? 0) + 1;
  }

  /** Brings mishaps one after the other until a time. */
  async run(end) {
    while (performance.now() < end) {
      await sleep(200 + below(1200));
      if (performance.now() >= end) return;
      const kind = oneOf(this.#kinds);
      if (kind === undefined) continue;
      await this[kind]();
      this.#counted(kind);
    }
  }

  #application() {
    return oneOf([...this.#bed.applications.values()]);
  }

  /** Returns a host's process of an application, or undefined. */
  async #host(application) {
    try {
      const { members } = await application.ask('status');
      return oneOf(members)?.pid;
    } catch {
      return undefined;
    }
  }

  #signal(pid, name) {
    try {
      if (pid !== undefined) process.kill(pid, name);
    } catch (error) {
      if (error.code !== 'ESRCH') throw error;
    }
  }

  async killHost() {
    this.#signal(await this.#host(this.#application()), 'SIGKILL');
  }

  async stopHost() {
    const pid = await this.#host(this.#application());
    this.#signal(pid, 'SIGSTOP');
    await sleep(below(3000));
    this.#signal(pid, 'SIGCONT');
  }

  async killApplication() {
    const application = this.#application();
    await application.kill();
    await this.#restart(application.version);
  }

  async stopApplication() {
    const application = this.#application();
    application.signal('SIGSTOP');
    await sleep(below(9000));
    application.signal('SIGCONT');
  }

  /** Takes a member away from all applications for a while. */
  async awayMember() {
    const name = oneOf(FIRST_MEMBERS);
    this.#bed.fault(name, 'C_Initialize return=0x30');
    for (const application of this.#bed.applications.values()) {
      const { members } = await application.ask('status').catch(() => ({ members: [] }));
      this.#signal(members.find((member) => member.name === name)?.pid, 'SIGKILL');
    }
    await sleep(below(5000));
    this.#bed.heal();
  }

  /** Runs the tool; kills it in the middle once in three times. */
  async #tool(args) {
    const isKilled = below(3) === 0;
    const end = await this.#bed.run(args, (child) => {
      if (isKilled) setTimeout(() => child.kill(oneOf(['SIGKILL', 'SIGINT'])), 200 + below(1500)).unref();
    });
    this.#counted(isKilled ? 'tool interrupted' : `tool exit ${end.code}`);
    return end;
  }

  async recover() {
    await this.#tool(['recover']);
  }

  async synchronize() {
    await this.#tool(['synchronize']);
  }

  async status() {
    await this.#tool(['status', '--json']);
  }

  /** Adds the third member, or removes it. */
  async membership() {
    const isMember = this.#bed.members().includes(THIRD_MEMBER);
    await this.#tool(isMember ? ['member', 'remove', THIRD_MEMBER, '--wipe', '--yes'] : this.#bed.addition);
  }
}
