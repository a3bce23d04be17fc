import { ck, codeName } from '../spec/constants.js';
import { type Job, resultOf, step } from '../spec/job.js';
import { verdictOn } from '../spec/verdict.js';
import { backoff, rejoinAfter } from './backoff.js';
import type { Connection, Ticket } from './connection.js';
import type { Group } from './group.js';
import { join } from './join.js';
import type { Member } from './member.js';
import type { VirtualObject } from './object.js';
import { Effort, failureOf } from './outcome.js';
import { resolveKey } from './resolve.js';
import { renewLogin } from './session.js';
import { hasAbandoned, settle } from './settlement.js';
import { sweep } from './sweep.js';
import { FOREVER, type Task } from './task.js';

const PROBE_FIRST = 50;
const PROBE_MOST = 5000;
/** After so many probes in a row that failed, the host is replaced: a fresh process may do better. */
const MOST_FAILED_PROBES = 4;
/** A member that has been well for so long has its failures forgiven (ms). */
const FORGIVEN_AFTER = 10_000;
/** A member that nobody uses is looked at so often (ms). */
const IDLE_PROBE = 5000;
/** How often a host with a hung job, or an old one, is looked at (ms). */
const WATCH_INTERVAL = 50;
/** A join takes at most so many times `hangAfter`. */
const JOIN_MULTIPLE = 5;

const objectInvalid = ck('CKR_OBJECT_HANDLE_INVALID');
const notLoggedIn = ck('CKR_USER_NOT_LOGGED_IN');
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
    const startedAt = port.now();
    const { reason, code, lasting } = yield* serveOnce(group, member);
    if (member.connection !== undefined) yield* member.connection.giveUp(policy);
    failures = port.now() - startedAt >= FORGIVEN_AFTER ? 0 : failures + 1;
    // The first try to come back is made at once.
    const wait = rejoinAfter(failures, port.random());
    const retryAt = lasting || member.refusal !== undefined ? FOREVER : port.now() + wait;
    member.move({ name: 'down', since: port.now(), reason, code, retryAt });
    while (port.now() < retryAt) yield { signals: [], until: retryAt };
    member.move({ name: 'joining', since: port.now() });
  }
}

interface Lost {
  readonly reason: string;
  readonly code: number | undefined;
  /** Coming back by itself is out of the question. */
  readonly lasting: boolean;
}

/** Brings a member into service and watches it until it is lost. */
function* serveOnce(group: Group, member: Member): Task<Lost> {
  const { port, policy } = group;
  try {
    const joined = yield* join(group, member, port.now() + policy.hangAfter * JOIN_MULTIPLE);
    if (!joined.ok) return joined;
    member.suspectedFor = undefined;
    const unsettled = yield* recover(group, member);
    if (unsettled !== undefined) return { reason: unsettled, code: undefined, lasting: false };
    member.suspectedFor = undefined;
    member.move({ name: member.home, since: port.now() });
    return { reason: yield* new Watch(group, member).untilLost(), code: member.refusal, lasting: false };
  } catch (error) {
    // Whatever it was: a member that nobody keeps would never come back.
    return { reason: error instanceof Error ? error.message : String(error), code: undefined, lasting: false };
  }
}

/** Before it serves, a member of a group with records does what it has missed. Ends with the reason when it cannot. */
function* recover(group: Group, member: Member): Task<string | undefined> {
  const { port, policy, ledger, isForming } = group;
  const { connection } = member;
  if (ledger.record === undefined || group.pin === undefined || isForming || connection === undefined) return undefined;
  member.move({ name: 'recovering', since: port.now() });
  const deadline = port.now() + policy.hangAfter * JOIN_MULTIPLE + policy.writeHangAfter;
  // Again, when a call has passed by meanwhile.
  do {
    const reason = yield* settle(group, member, deadline);
    if (reason !== undefined) return reason;
  } while (member.isUnsettled && port.now() < deadline && !isOver(connection));
  port.start(sweep(group, member, connection));
  // Session objects of the application live on the host that they were made on.
  for (const object of [...group.objects.values()]) {
    if (object.session === undefined || isOver(connection)) continue;
    yield* resolveKey(group, member, connection, object, new Effort());
  }
  return isOver(connection) ? 'the host ended while it was settling' : undefined;
}

function isOver({ end }: Connection): boolean {
  return end !== undefined;
}

/** What kept a probe from being well. */
interface Answer {
  readonly code: number | undefined;
  readonly text: string;
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
      if (port.now() >= this.#member.settleAt) {
        this.#member.settleAt = FOREVER;
        if (yield* hasAbandoned(this.#group, this.#member, port.now() + this.#group.policy.hangAfter)) {
          this.#member.isUnsettled = true;
          this.#member.suspectedFor ??= 'another process has left something there';
        }
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
        until: Math.min(idleAt, this.#nextLook(), this.#member.settleAt),
      };
    }
  }

  #nextLook(): number {
    const now = this.#group.port.now();
    const hungAt = this.#connection.hungAt(this.#group.policy);
    return hungAt <= now ? now + WATCH_INTERVAL : hungAt;
  }

  /** Looks at what is out: marks what is late, raises suspicion at silence, finds what hangs. */
  #look(): string | undefined {
    const connection = this.#connection;
    if (connection.end !== undefined) return connection.end.reason;
    const now = this.#group.port.now();
    if (connection.isHung(now, this.#group.policy)) return 'a call has not returned';
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
      if (member.refusal !== undefined) return `its PIN was refused with ${codeName(member.refusal)}`;
      // Whoever relapses again and again is left out of service a little longer each time.
      const restUntil =
        port.now() + backoff(Math.max(this.#failures, this.#relapses - 1), PROBE_FIRST, PROBE_MOST, port.random());
      while (port.now() < restUntil) {
        const lost = this.#look();
        if (lost !== undefined) return lost;
        yield { signals: [connection.ended, connection.alarm], until: Math.min(restUntil, this.#nextLook()) };
      }
      const probed = yield* this.#probe();
      if (connection.end !== undefined) return connection.end.reason;
      if (probed === 'hung') return this.#look() ?? reason;
      if (probed === 'well') {
        // What it has missed, or left half done, it makes good on a fresh host (Rule 14).
        if (member.isUnsettled && this.#group.ledger.record !== undefined) return `${reason}; it catches up`;
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
    let missed = false;
    let renewed = false;
    for (;;) {
      const answer = yield* this.#ask(missed);
      if (typeof answer === 'string') return answer;
      if (answer.code === objectInvalid && this.#canary !== undefined) {
        // Somebody destroyed it, or the token is empty: the next one tells.
        this.#connection.replicas.delete(this.#canary);
        missed = true;
      } else if (answer.code !== undefined && verdictOn(answer.code, policy.verdicts) === 'session' && !renewed) {
        renewed = true;
        if (!(yield* this.#renew())) return 'hung';
      } else {
        return answer.text;
      }
    }
  }

  /** Makes the login new; false when that hangs. */
  *#renew(): Task<boolean> {
    const renewal = renewLogin(this.#group, this.#member, this.#connection);
    while (!renewal.settled) {
      if (this.#look() !== undefined) return false;
      yield { signals: [renewal, this.#connection.alarm, this.#connection.ended], until: this.#nextLook() };
    }
    return true;
  }

  *#ask(missed: boolean): Task<string | Answer> {
    const connection = this.#connection;
    const ticket = connection.submit(this.#job(missed), 'probe', FOREVER);
    while (!ticket.settled) {
      if (this.#look() !== undefined) return 'hung';
      yield { signals: [ticket, connection.alarm], until: this.#nextLook() };
    }
    return this.#read(ticket, missed);
  }

  /** `missed`: an object was not there any more; with no other to look for, any object will do. */
  #job(missed: boolean): Job {
    const steps = [step('C_GetTokenInfo', this.#connection.slot), step('C_GetSessionInfo')];
    this.#canary = undefined;
    for (const [object, replica] of this.#connection.replicas) {
      if (replica.kind !== 'usable') continue;
      this.#canary = object;
      steps.push(step('C_GetAttributeValue', replica.handle, [CKA_LABEL]));
      break;
    }
    if (this.#canary === undefined && missed) steps.push(step('X_Find', [], 1, []));
    // A session of its own, so that the probe also sees whether sessions can be had.
    return { steps, fresh: true };
  }

  #read(ticket: Ticket, missed: boolean): string | Answer {
    const { outcome } = ticket;
    const failure = outcome === undefined ? undefined : failureOf(outcome);
    if (failure?.kind === 'code')
      return { code: failure.code, text: `${failure.function} answered ${codeName(failure.code)}` };
    if (outcome?.kind !== 'reply')
      return { code: undefined, text: outcome?.kind === 'lost' ? outcome.reason : 'it does not answer' };
    const { serialNumber } = resultOf(outcome.reply, 0, 'C_GetTokenInfo');
    if (serialNumber !== this.#member.serial)
      return { code: undefined, text: `another token is there: serial ${serialNumber}` };
    const { state } = resultOf(outcome.reply, 1, 'C_GetSessionInfo');
    if (this.#group.ledger.record !== undefined && !this.#member.isOfGroup && !this.#group.isForming)
      return { code: undefined, text: 'it has no group record' };
    if (this.#group.pin !== undefined && !loggedInStates.has(state))
      return { code: notLoggedIn, text: 'it has lost its login' };
    const isEmpty = missed && this.#canary === undefined && resultOf(outcome.reply, 2, 'X_Find').length === 0;
    return isEmpty ? { code: undefined, text: 'its objects are gone' } : 'well';
  }
}
