import { codeName } from '../../spec/constants.js';
import { backoff } from '../base/backoff.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { hasAbandoned } from '../recovery/abandoned-intent.js';
import { failedBecause, type RecoveryFailure } from '../recovery/recovery-result.js';
import { refreshRecord } from '../wrapping/group-record-reading.js';
import { HangWatch, HUNG_HOST_POLL } from './hang-watch.js';
import { MissedScout } from './missed-scout.js';
import { Probe } from './probe.js';
import { assumeRole } from './promotion.js';
import { RecordScout } from './record-scout.js';

/** Shortest interval between two probes of a suspect member (ms). */
const PROBE_FIRST = 50;
/** Longest interval between two probes of a suspect member (ms). */
const PROBE_MOST = 5000;
/** Number of failed probes in a row after which the host is replaced: a fresh process may do better. */
const MOST_FAILED_PROBES = 4;
/** Time in good health after which earlier failures of a member no longer count (ms). */
export const FORGIVEN_AFTER = 10_000;
/** Interval between probes of an idle member (ms). */
const IDLE_PROBE = 5000;

/** Watch over one connection of a member. */
export class Watch {
  readonly #group: Group;
  readonly #member: Member;
  readonly #connection: Connection;
  readonly #hangs: HangWatch;
  readonly #probe: Probe;
  readonly #scout: RecordScout;
  readonly #missed: MissedScout;
  /** Number of times in a row that the member was suspected again soon after it had been well. */
  #relapses = 0;
  #wellSince: number;

  /** `recoveredIn` is the time that the member's recovery took (ms). */
  constructor(group: Group, member: Member, recoveredIn: number) {
    const connection = member.connection as Connection;
    this.#group = group;
    this.#member = member;
    this.#connection = connection;
    this.#hangs = new HangWatch(group, member, connection);
    this.#probe = new Probe(group, member, connection, this.#hangs);
    this.#scout = new RecordScout(group, member, connection);
    this.#missed = new MissedScout(group, member, recoveredIn);
    this.#wellSince = group.port.now();
  }

  /** Ends with the cause when the connection is lost or must be given up. */
  *untilLost(): Task<RecoveryFailure> {
    const { port, policy } = this.#group;
    const { recovery } = this.#member;
    const connection = this.#connection;
    const scout = this.#scout;
    for (;;) {
      const lost = this.#hangs.look();
      if (lost !== undefined) return failedBecause(lost);
      if (recovery.mustRestartHost) return { kind: 'needsFreshHost' };
      const order = this.#group.orderFor(this.#member);
      if (order !== undefined) return failedBecause(yield* this.#drain(order));
      assumeRole(this.#group, this.#member);
      const reachable = this.#reasonToCatchUp();
      if (reachable !== undefined) return failedBecause(reachable);
      if (scout.isBehind) yield* scout.compare();
      if (scout.isReadDue) {
        yield* refreshRecord(this.#group, port.now() + policy.hangAfter);
        continue;
      }
      if (this.#missed.look())
        this.#member.requireRecovery('other processes have confirmed changes that the member lacks');
      if (recovery.takeRetry(port.now()))
        this.#member.requireRecovery('the member lacks changes that it could not make');
      if (this.#member.suspectedFor !== undefined) {
        const reason = yield* this.#examine(this.#member.suspectedFor);
        if (reason !== undefined) return failedBecause(reason);
        continue;
      }
      if (port.now() >= recovery.recheckIntentsAt) {
        yield* this.#recheckIntents();
        continue;
      }
      const idleAt = connection.lastReplyAt + IDLE_PROBE;
      if (port.now() >= idleAt) {
        const probed = yield* this.#probe.run();
        if (probed.kind !== 'well' && connection.end === undefined)
          this.#member.suspectedFor ??= probed.kind === 'hung' ? 'a probe has not returned' : probed.reason;
        continue;
      }
      // Changes of other members concern a standby member, and a stale one that waits for a member with the changes.
      const { suspicion, ordersChanged, isActive } = this.#member;
      const own = [connection.ended, connection.alarm, suspicion, ordersChanged];
      yield* race(
        isActive ? own : [...own, this.#group.changed],
        Math.min(
          idleAt,
          this.#hangs.nextLookAt,
          recovery.recheckIntentsAt,
          recovery.retryAt,
          scout.nextAt,
          this.#missed.nextAt,
        ),
      );
    }
  }

  /** Suspects the member if another process has left an unfinished change on its token. */
  *#recheckIntents(): Task<void> {
    const { port, policy } = this.#group;
    const member = this.#member;
    member.recovery.forgetRecheck();
    if (!(yield* hasAbandoned(this.#group, member, port.now() + policy.hangAfter))) return;
    member.recovery.require();
    member.suspectedFor ??= 'another process has left an unfinished change on the token';
  }

  /** Finishes the jobs that are running, takes no new job, and ends with the reason. */
  *#drain(order: string): Task<string> {
    const member = this.#member;
    const connection = this.#connection;
    member.move({ name: 'drained', since: this.#group.port.now(), reason: order });
    connection.withdrawQueued();
    while (connection.load > 0 || member.role.hostUsers > 0) {
      const lost = this.#hangs.look();
      if (lost !== undefined) return lost;
      if (this.#group.orderFor(member) === undefined) break;
      yield* race(
        [connection.ended, member.ordersChanged],
        Math.min(this.#hangs.nextLookAt, this.#group.port.now() + HUNG_HOST_POLL),
      );
    }
    return order;
  }

  /** Returns the reason for a stale member to catch up: every missed change can be read from a serving member. */
  #reasonToCatchUp(): string | undefined {
    const { serial, state, recovery } = this.#member;
    if (recovery.staleFor === undefined || serial === undefined || state.name !== 'stale') return undefined;
    const { missed, ledger } = this.#group;
    missed.forgetLeft((each) => ledger.isMember(each));
    if (missed.isOutOfReach(serial, this.#group.servingBut(this.#member))) return undefined;
    recovery.require();
    return 'the missed changes can be read again';
  }

  /** Moves all calls of a suspect member at once, and probes the member until it is well or must be given up. */
  *#examine(reason: string): Task<string | undefined> {
    const { port } = this.#group;
    const member = this.#member;
    const connection = this.#connection;
    this.#relapses = port.now() - this.#wellSince > FORGIVEN_AFTER ? 0 : this.#relapses + 1;
    member.move({ name: 'suspect', since: port.now(), reason });
    connection.moveAll();
    // A member that relapses rests a little longer each time. Probes go on meanwhile, to notice a failure for good.
    const restUntil = port.now() + backoff(this.#relapses - 1, PROBE_FIRST, PROBE_MOST, port.random());
    let failures = 0;
    let probesAt = port.now();
    for (;;) {
      if (member.login.refusal !== undefined) return `the PIN was refused with ${codeName(member.login.refusal)}`;
      const lost = yield* this.#hangs.lookUntil(probesAt);
      if (lost !== undefined) return lost;
      const probed = yield* this.#probe.run();
      if (connection.end !== undefined) return connection.end.reason;
      if (probed.kind === 'hung') return this.#hangs.look() ?? reason;
      if (probed.kind === 'failed') {
        failures += 1;
        if (failures >= MOST_FAILED_PROBES) return probed.reason;
        probesAt = port.now() + backoff(failures, PROBE_FIRST, PROBE_MOST, port.random());
        continue;
      }
      // The member makes good missed and half-done changes on a fresh host (Rule 14).
      if (member.recovery.isNeeded && this.#group.ledger.record !== undefined)
        return `${reason}; the member catches up`;
      if (port.now() >= restUntil) break;
      failures = 0;
      probesAt = restUntil;
    }
    member.suspectedFor = undefined;
    this.#wellSince = port.now();
    member.serve();
    return undefined;
  }
}
