import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';

/** Polling interval for a host with a hung or an old job (ms). */
export const HUNG_HOST_POLL = 50;

/** Watch over the jobs that are out on one connection: finds late ones, silence and hangs. */
export class HangWatch {
  readonly #group: Group;
  readonly #member: Member;
  readonly #connection: Connection;

  constructor(group: Group, member: Member, connection: Connection) {
    this.#group = group;
    this.#member = member;
    this.#connection = connection;
  }

  /** Marks late jobs and suspects the member at silence; returns the reason if the connection ended or a call hangs. */
  look(): string | undefined {
    const connection = this.#connection;
    if (connection.end !== undefined) return connection.end.reason;
    const now = this.#group.port.now();
    if (connection.isHung(now, this.#group.policy)) return 'a call has not returned';
    const { silent } = connection.noticeLate(now);
    if (silent) this.#member.suspectedFor ??= 'the member does not answer';
    return undefined;
  }

  /** Time of the next look (ms of the port's clock). */
  get nextLookAt(): number {
    const now = this.#group.port.now();
    const hungAt = this.#connection.hungAt(this.#group.policy);
    return hungAt <= now ? now + HUNG_HOST_POLL : hungAt;
  }

  /** Waits until a time; returns the reason if the connection is lost or a call hangs meanwhile. */
  *lookUntil(until: number): Task<string | undefined> {
    const connection = this.#connection;
    while (this.#group.port.now() < until) {
      const lost = this.look();
      if (lost !== undefined) return lost;
      yield* race([connection.ended, connection.alarm], Math.min(until, this.nextLookAt));
    }
    return undefined;
  }
}
