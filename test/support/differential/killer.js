// Ends one of the group's hosts by SIGKILL, as a crash of the vendor's library would, just before a call of a case.
import { setTimeout as wait } from 'node:timers/promises';
import { Library } from '../../../dist/faces/pkcs11js/library.js';

/** The members of the group that is loaded from that path. */
export class Killer {
  #library;

  constructor(path) {
    this.#library = Library.load(path);
  }

  get #members() {
    return this.#library.slots[0].open.group.members;
  }

  /** Until all are in service again. */
  async restored() {
    while (!this.#members.every(({ isActive }) => isActive)) await wait(2);
  }

  kill(index) {
    const { connection } = this.#members[index % this.#members.length];
    if (connection?.pid === undefined) return false;
    process.kill(connection.pid, 'SIGKILL');
    return true;
  }
}
