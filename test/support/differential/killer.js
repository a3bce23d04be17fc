// Ends one of the group's hosts by SIGKILL just before a call of a case, as a crash of the vendor's library would.
import { setTimeout as wait } from 'node:timers/promises';
import { recoverMember } from '../../../dist/core/administration/recover-member.js';
import { Library } from '../../../dist/faces/pkcs11js/library.js';

/** Limit of a member's return (ms). */
const RESTORED_WITHIN = 20_000;

/** Access to the hosts of the group that is loaded from a path. */
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

  /** Brings all members back at once: the group itself would wait seconds for a member that is lost again and again. */
  async restored() {
    const end = Date.now() + 3 * RESTORED_WITHIN;
    while (!this.#members.every(({ isActive }) => isActive)) {
      const away = this.#members.find(({ isActive, state }) => !isActive && state.name === 'down');
      try {
        if (away !== undefined)
          await this.#open.run(recoverMember(this.#open.group, away.name, this.#open.now() + RESTORED_WITHIN));
      } catch {
        // Tries again: a host that starts just after a crash may not see its token.
      }
      if (Date.now() > end) throw new Error(`members stay away: ${this.#members.map(({ state }) => state.name)}`);
      await wait(2);
    }
  }

  /** Kills a member's host; returns false if it has none. */
  kill(index) {
    const { connection } = this.#members[index % this.#members.length];
    if (connection?.pid === undefined) return false;
    process.kill(connection.pid, 'SIGKILL');
    return true;
  }
}
