// Ends one of the group's hosts by SIGKILL, as a crash of the vendor's library would, just before a call of a case.
import { setTimeout as wait } from 'node:timers/promises';
import { recoverMember } from '../../../dist/core/administration/duty.js';
import { Library } from '../../../dist/faces/pkcs11js/library.js';

/** ms */
const RESTORED_WITHIN = 20_000;

/** The members of the group that is loaded from that path. */
export class Killer {
  #library;

  constructor(path) {
    this.#library = Library.load(path);
  }

  get #open() {
    return this.#library.slots[0].open;
  }

  get #members() {
    return this.#open.group.members;
  }

  /** Has all serve again at once: one that is lost so often would be left alone for seconds. */
  async restored() {
    while (!this.#members.every(({ isActive }) => isActive)) {
      const away = this.#members.find(({ isActive, state }) => !isActive && state.name === 'down');
      try {
        if (away !== undefined)
          await this.#open.run(recoverMember(this.#open.group, away.name, this.#open.now() + RESTORED_WITHIN));
      } catch {
        // A token may not be seen by a host that starts just after a crash: it is told again.
      }
      await wait(2);
    }
  }

  kill(index) {
    const { connection } = this.#members[index % this.#members.length];
    if (connection?.pid === undefined) return false;
    process.kill(connection.pid, 'SIGKILL');
    return true;
  }
}
