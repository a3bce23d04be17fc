import { CKA, CKR } from '../../spec/codes.js';
import { ck, codeName } from '../../spec/constants.js';
import { type Job, resultOf, step } from '../../spec/job.js';
import { verdictOn } from '../../spec/verdict.js';
import { backoff } from '../base/backoff.js';
import { FOREVER, type Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Connection, Ticket } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { failureOf } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { renewLogin } from '../joining/login-renewal.js';
import type { VirtualObject } from '../objects/object.js';
import { hasAbandoned } from '../recovery/reconciliation.js';
import { FRESH_HOST, isOutdated } from '../recovery/recovery.js';
import { refreshRecord } from '../wrapping/membership-record.js';

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
/** A member that does not know the group's newest record is looked at again after so long (ms), and up to twice that. */
const COMPARE_AGAIN = 300;
/** The group's record is read again after so many times `freshness`, whatever applications do. */
const SCOUT_MULTIPLE = 5;
const loggedInStates: ReadonlySet<number> = new Set([ck('CKS_RO_USER_FUNCTIONS'), ck('CKS_RW_USER_FUNCTIONS')]);

/** What kept a probe from being well. */
interface Answer {
  readonly code: number | undefined;
  readonly text: string;
}

/** The watch over one connection. */
export class Watch {
  readonly #group: Group;
  readonly #member: Member;
  readonly #connection: Connection;
  /** How often in a row it was suspect again soon after it had been well. */
  #relapses = 0;
  #wellSince: number;
  #canary: VirtualObject | undefined;
  /** When its record of the group is compared again with that of the others, where it was behind. */
  #comparesAt: number = 0;

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
      if (this.#member.recovery.mustRestartHost) return FRESH_HOST;
      const order = this.#group.orderFor(this.#member);
      if (order !== undefined) return yield* this.#drain(order);
      this.#keepStation();
      const told = this.#mayBeTold();
      if (told !== undefined) return told;
      if (this.#isBehind()) yield* this.#compareRecord();
      if (this.#isScout() && this.#group.port.now() >= this.#scoutsAt()) {
        yield* refreshRecord(this.#group, this.#group.port.now() + this.#group.policy.hangAfter);
        continue;
      }
      if (this.#member.suspectedFor !== undefined) {
        const given = yield* this.#examine(this.#member.suspectedFor);
        if (given !== undefined) return given;
        continue;
      }
      if (port.now() >= this.#member.recovery.recheckIntentsAt) {
        this.#member.recovery.forgetRecheck();
        if (yield* hasAbandoned(this.#group, this.#member, port.now() + this.#group.policy.hangAfter)) {
          this.#member.recovery.require();
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
      // What the others do concerns those in reserve, and those that wait for somebody who knows.
      const { suspicion, ordersChanged, isActive } = this.#member;
      const scoutsAt = this.#isScout() ? this.#scoutsAt() : FOREVER;
      const own = [connection.ended, connection.alarm, suspicion, ordersChanged];
      yield* race(
        isActive ? own : [...own, this.#group.changed],
        Math.min(idleAt, this.#nextLook(), this.#member.recovery.recheckIntentsAt, this.#nextComparison(), scoutsAt),
      );
    }
  }

  /** Finishes what is running, takes nothing new, and ends with the reason. */
  *#drain(order: string): Task<string> {
    const member = this.#member;
    const connection = this.#connection;
    member.move({ name: 'drained', since: this.#group.port.now(), reason: order });
    connection.withdrawQueued();
    while (connection.load > 0 || member.role.hostUsers > 0) {
      const lost = this.#look();
      if (lost !== undefined) return lost;
      if (this.#group.orderFor(member) === undefined) break;
      yield* race(
        [connection.ended, member.ordersChanged],
        Math.min(this.#nextLook(), this.#group.port.now() + WATCH_INTERVAL),
      );
    }
    return order;
  }

  /** One in reserve serves when nobody else is left, or on its way back; one that is told otherwise changes over. */
  #keepStation(): void {
    const member = this.#member;
    const { name } = member.state;
    if (name === 'standby' && member.role.assigned === undefined) {
      const hope = ['active', 'suspect', 'joining', 'recovering'];
      if (
        !this.#group.members.some(
          (other) => other !== member && other.assignedState === 'active' && hope.includes(other.state.name),
        )
      )
        member.role.assign('active');
    }
    if ((name === 'standby' || name === 'active') && name !== member.assignedState) member.serve();
  }

  /**
   * A stale member catches up, on a fresh host, as soon as somebody is back who knows what it has missed, or when
   * another process has told it.
   */
  #mayBeTold(): string | undefined {
    const { serial, state } = this.#member;
    const { staleFor } = this.#member.recovery;
    if (staleFor === undefined || serial === undefined || state.name !== 'stale') return undefined;
    if (this.#group.missed.isOutOfReach(serial, this.#group.servingBut(this.#member))) return undefined;
    this.#member.recovery.require();
    return 'those that know what it has missed are back';
  }

  /** One member is asked now and then what other processes have made of the group. */
  #isScout(): boolean {
    const { ledger, isBeingCreated: isForming, members } = this.#group;
    return ledger.record !== undefined && !isForming && members.find(({ isActive }) => isActive) === this.#member;
  }

  #scoutsAt(): number {
    return this.#group.recordReadAt + this.#group.policy.freshness * SCOUT_MULTIPLE;
  }

  #nextComparison(): number {
    return this.#comparesAt > this.#group.port.now() ? this.#comparesAt : FOREVER;
  }

  #isBehind(): boolean {
    const { ledger, port, isBeingCreated: isForming } = this.#group;
    if (isForming || ledger.record === undefined || this.#member.recovery.revision >= ledger.record.revision)
      return false;
    return port.now() >= this.#comparesAt;
  }

  /** Another member's record of the group is newer: it may be here too by now; else it comes on a fresh host. */
  *#compareRecord(): Task<void> {
    const { port, policy, members } = this.#group;
    const member = this.#member;
    if (!(yield* isOutdated(this.#group, member, port.now() + policy.hangAfter))) return;
    // One after the other, so that somebody serves meanwhile.
    const isSpared = members.every((other) => other === member || !other.isServing || other.isActive);
    this.#comparesAt = port.now() + COMPARE_AGAIN * (1 + port.random());
    if (!isSpared || this.#connection.end !== undefined) return;
    member.recovery.require();
    member.suspectedFor ??= 'it does not know the newest state of the group';
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
    // Whoever relapses again and again is left out of service a little longer each time. It is probed before as well: what
    // has failed for good is not waited for.
    const restUntil = port.now() + backoff(this.#relapses - 1, PROBE_FIRST, PROBE_MOST, port.random());
    let failures = 0;
    let probesAt = port.now();
    for (;;) {
      if (member.login.refusal !== undefined) return `its PIN was refused with ${codeName(member.login.refusal)}`;
      const lost = yield* this.#pause(probesAt);
      if (lost !== undefined) return lost;
      const probed = yield* this.#probe();
      if (connection.end !== undefined) return connection.end.reason;
      if (probed === 'hung') return this.#look() ?? reason;
      if (probed !== 'well') {
        failures += 1;
        if (failures >= MOST_FAILED_PROBES) return probed;
        probesAt = port.now() + backoff(failures, PROBE_FIRST, PROBE_MOST, port.random());
        continue;
      }
      // What it has missed, or left half done, it makes good on a fresh host (Rule 14).
      if (member.recovery.isNeeded && this.#group.ledger.record !== undefined) return `${reason}; it catches up`;
      if (port.now() >= restUntil) break;
      failures = 0;
      probesAt = restUntil;
    }
    member.suspectedFor = undefined;
    this.#wellSince = port.now();
    member.serve();
    return undefined;
  }

  /** Lets time pass, and gives the reason when the connection is lost meanwhile. */
  *#pause(until: number): Task<string | undefined> {
    const connection = this.#connection;
    while (this.#group.port.now() < until) {
      const lost = this.#look();
      if (lost !== undefined) return lost;
      yield* race([connection.ended, connection.alarm], Math.min(until, this.#nextLook()));
    }
    return undefined;
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
      if (answer.code === CKR.objectHandleInvalid && this.#canary !== undefined) {
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
    while (!renewal.completed) {
      if (this.#look() !== undefined) return false;
      yield* race([renewal, this.#connection.alarm, this.#connection.ended], this.#nextLook());
    }
    return true;
  }

  *#ask(missed: boolean): Task<string | Answer> {
    const connection = this.#connection;
    const ticket = connection.submit(this.#job(missed), 'probe', FOREVER);
    while (!ticket.completed) {
      if (this.#look() !== undefined) return 'hung';
      yield* race([ticket, connection.alarm], this.#nextLook());
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
      steps.push(step('C_GetAttributeValue', replica.handle, [CKA.label]));
      break;
    }
    if (this.#canary === undefined && missed) steps.push(step('X_Find', [], 1, []));
    // A session of its own, so that the probe also sees whether sessions can be had.
    return { steps, onNewSession: true };
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
    if (this.#group.ledger.record !== undefined && !this.#member.recovery.isOfGroup && !this.#group.isBeingCreated)
      return { code: undefined, text: 'it has no group record' };
    if (this.#group.pin !== undefined && !loggedInStates.has(state))
      return { code: CKR.userNotLoggedIn, text: 'it has lost its login' };
    const isEmpty = missed && this.#canary === undefined && resultOf(outcome.reply, 2, 'X_Find').length === 0;
    return isEmpty ? { code: undefined, text: 'its objects are gone' } : 'well';
  }
}
