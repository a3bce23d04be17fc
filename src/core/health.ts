import { ck } from '../spec/constants.js';
import { type Job, resultOf, step } from '../spec/job.js';
import { verdictOn } from '../spec/verdict.js';
import { backoff } from './backoff.js';
import type { Connection, Ticket } from './connection.js';
import type { Group } from './group.js';
import { join } from './join.js';
import type { Member } from './member.js';
import type { VirtualObject } from './object.js';
import { failureOf } from './outcome.js';
import { renewLogin } from './session.js';
import { FOREVER, type Task } from './task.js';

const REJOIN_FIRST = 100;
const REJOIN_MOST = 5000;
const PROBE_FIRST = 50;
const PROBE_MOST = 5000;
/** After so many probes in a row that failed, the host is replaced: a fresh process may do better. */
const MOST_FAILED_PROBES = 4;
/** A member that has been well for so long has its failures forgiven (ms). */
const FORGIVEN_AFTER = 10_000;
/** A member that nobody uses is looked at so often (ms). */
const IDLE_PROBE = 5000;
/** A host that was killed is waited for so long before it counts as lost (ms). */
const REAP_WITHIN = 2000;
/** How often a host with a hung job, or an old one, is looked at (ms). */
const WATCH_INTERVAL = 50;
/** A join takes at most so many times `hangAfter`. */
const JOIN_MULTIPLE = 5;

const objectInvalid = ck('CKR_OBJECT_HANDLE_INVALID');
const CKA_LABEL = ck('CKA_LABEL');
const loggedInStates: ReadonlySet<number> = new Set([ck('CKS_RO_USER_FUNCTIONS'), ck('CKS_RW_USER_FUNCTIONS')]);

/**
 * Keeps one member in service, beside the application's calls (Rule 10): joins it, watches it, probes it
 * when it is suspected, replaces its host when that hangs or dies, and starts again, for ever.
 */
export function* keepMember(group: Group, member: Member): Task<never> {
  const { port, policy } = group;
  let failures = 0;
  for (;;) {
    if (member.state.name === 'down') member.move({ name: 'joining', since: port.now() });
    const joined = yield* join(group, member, port.now() + policy.hangAfter * JOIN_MULTIPLE);
    const joinedAt = port.now();
    let reason = joined.ok ? '' : joined.reason;
    if (joined.ok) {
      member.suspectedFor = undefined;
      member.move({ name: member.home, since: joinedAt });
      reason = yield* new Watch(group, member).untilLost();
    }
    yield* endHost(member, policy.hangAfter);
    failures = joined.ok && port.now() - joinedAt >= FORGIVEN_AFTER ? 0 : failures + 1;
    const lasting = !joined.ok && joined.lasting;
    // The first try to come back is made at once.
    const retryAt = lasting ? FOREVER : port.now() + backoff(failures - 1, REJOIN_FIRST, REJOIN_MOST, port.random());
    member.move({ name: 'down', since: port.now(), reason, code: joined.ok ? undefined : joined.code, retryAt });
    while (port.now() < retryAt) yield { signals: [], until: retryAt };
  }
}

/** Kills what is left of a host and waits until it holds nothing any more: its successor may start then (Rule 9). */
function* endHost(member: Member, hangAfter: number): Task<void> {
  const { connection } = member;
  if (connection === undefined || connection.end !== undefined) return;
  connection.kill(hangAfter);
  const until = connection.port.now() + REAP_WITHIN;
  while (connection.end === undefined && connection.port.now() < until) yield { signals: [connection.ended], until };
  connection.hostEnded({ reason: 'the host did not end' });
}

/** The watch over one connection. */
class Watch {
  readonly #group: Group;
  readonly #member: Member;
  readonly #connection: Connection;
  /** Failed probes and relapses, for the back-off between looks. */
  #failures = 0;
  #relapses = 0;
  #wellSince: number;
  #canary: VirtualObject | undefined;

  constructor(group: Group, member: Member) {
    this.#group = group;
    this.#member = member;
    this.#connection = member.connection as Connection;
    this.#wellSince = group.port.now();
  }

  /** Ends with the reason when the connection is lost or has to be given up. */
  *untilLost(): Task<string> {
    const { port } = this.#group;
    const connection = this.#connection;
    for (;;) {
      const lost = this.#look();
      if (lost !== undefined) return lost;
      if (this.#member.suspectedFor !== undefined) {
        const given = yield* this.#examine(this.#member.suspectedFor);
        if (given !== undefined) return given;
        continue;
      }
      const idleAt = connection.lastReplyAt + IDLE_PROBE;
      if (port.now() >= idleAt) {
        const probed = yield* this.#probe();
        if (probed !== 'well' && connection.end === undefined) this.#member.suspectedFor ??= probed;
        continue;
      }
      yield {
        signals: [connection.ended, connection.alarm, this.#member.suspicion],
        until: Math.min(idleAt, this.#nextLook()),
      };
    }
  }

  #nextLook(): number {
    const { hangAfter } = this.#group.policy;
    const now = this.#group.port.now();
    const hungAt = this.#connection.hungAt(hangAfter);
    return hungAt <= now ? now + WATCH_INTERVAL : hungAt;
  }

  /** Looks at what is out: marks what is late, raises suspicion at silence, finds what hangs. */
  #look(): string | undefined {
    const connection = this.#connection;
    if (connection.end !== undefined) return connection.end.reason;
    const now = this.#group.port.now();
    const { hangAfter } = this.#group.policy;
    if (connection.isHung(now, hangAfter)) return `a call has not returned for ${hangAfter} ms`;
    const { silent } = connection.noticeLate(now);
    if (silent) this.#member.suspectedFor ??= 'it does not answer';
    return undefined;
  }

  /** A suspect: all its calls move at once, and it is probed until it is well or given up. */
  *#examine(reason: string): Task<string | undefined> {
    const { port } = this.#group;
    const member = this.#member;
    const connection = this.#connection;
    this.#relapses = port.now() - this.#wellSince > FORGIVEN_AFTER ? 0 : this.#relapses + 1;
    member.move({ name: 'suspect', since: port.now(), reason });
    connection.moveAll();
    this.#failures = 0;
    for (;;) {
      // Whoever relapses again and again is left out of service a little longer each time.
      const restUntil =
        port.now() + backoff(Math.max(this.#failures, this.#relapses - 1), PROBE_FIRST, PROBE_MOST, port.random());
      while (port.now() < restUntil) {
        const lost = this.#look();
        if (lost !== undefined) return lost;
        yield { signals: [connection.ended], until: Math.min(restUntil, this.#nextLook()) };
      }
      const probed = yield* this.#probe();
      if (connection.end !== undefined) return connection.end.reason;
      if (probed === 'hung') return this.#look() ?? reason;
      if (probed === 'well') {
        member.suspectedFor = undefined;
        this.#wellSince = port.now();
        member.move({ name: member.home, since: this.#wellSince });
        return undefined;
      }
      this.#failures += 1;
      if (this.#failures >= MOST_FAILED_PROBES) return probed;
    }
  }

  /**
   * Asks for more than the presence of a token: whether it is the same token, whether the login holds, and
   * whether an object that was there can still be read.
   */
  *#probe(): Task<string> {
    const { policy } = this.#group;
    const connection = this.#connection;
    let result = yield* this.#ask();
    const code = typeof result === 'object' ? result.code : undefined;
    if (code !== undefined && verdictOn(code, policy.verdicts) === 'session') {
      const failure = yield* renewLogin(this.#group, connection);
      if (failure === undefined) result = yield* this.#ask();
    }
    return typeof result === 'string' ? result : result.text;
  }

  *#ask(): Task<string | { readonly code: number | undefined; readonly text: string }> {
    const connection = this.#connection;
    const ticket = connection.submit(this.#job(), 'probe', FOREVER);
    while (!ticket.settled) {
      if (this.#look() !== undefined) return 'hung';
      yield {
        signals: [ticket, connection.alarm],
        until: Math.min(this.#nextLook(), this.#group.port.now() + this.#group.policy.hangAfter),
      };
    }
    return this.#read(ticket);
  }

  #job(): Job {
    const steps = [step('C_GetTokenInfo', this.#connection.slot), step('C_GetSessionInfo')];
    this.#canary = undefined;
    for (const [object, replica] of this.#connection.replicas) {
      if (replica.kind !== 'usable') continue;
      this.#canary = object;
      steps.push(step('C_GetAttributeValue', replica.handle, [CKA_LABEL]));
      break;
    }
    // A session of its own, so that the probe also sees whether sessions can be had.
    return { steps, fresh: true };
  }

  #read(ticket: Ticket): string | { readonly code: number | undefined; readonly text: string } {
    const { outcome } = ticket;
    const failure = outcome === undefined ? undefined : failureOf(outcome);
    if (outcome?.kind === 'reply' && failure === undefined) {
      const { serialNumber } = resultOf(outcome.reply, 0, 'C_GetTokenInfo');
      if (serialNumber !== this.#member.serial)
        return { code: undefined, text: `another token is there: serial ${serialNumber}` };
      const { state } = resultOf(outcome.reply, 1, 'C_GetSessionInfo');
      if (this.#group.pin !== undefined && !loggedInStates.has(state)) {
        return { code: ck('CKR_USER_NOT_LOGGED_IN'), text: 'it has lost its login' };
      }
      return 'well';
    }
    if (failure?.kind !== 'code')
      return { code: undefined, text: failure?.kind === 'lost' ? failure.reason : 'it does not answer' };
    if (failure.code === objectInvalid && this.#canary !== undefined) {
      // The handle may be void, or the token empty: found again before it is believed.
      this.#connection.replicas.delete(this.#canary);
      return { code: undefined, text: `its object '${this.#canary.label}' is gone` };
    }
    return { code: failure.code, text: `${failure.function} does not succeed` };
  }
}
