import { rejoinAfter } from '../base/backoff.js';
import { FOREVER, type Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { join } from '../joining/join.js';
import { inspectOnSpareHost } from '../joining/spare-host.js';
import { UNCOMPARED } from '../recovery/comparison.js';
import { shortenJournals } from '../recovery/journal.js';
import { claimReturning, FRESH_HOST, recover, SOMEBODY_ELSE } from '../recovery/recovery.js';
import { Watch } from './watch.js';

/** A member that has been well for so long has its failures forgiven (ms). */
const FORGIVEN_AFTER = 10_000;
/** A drained member that is the last hope is looked at so often (ms). */
const LOOK_AGAIN = 2000;
/** A member may go through so many hosts in a row to catch up before it has to wait in between. */
const FREE_DETOURS = 4;
/** A join takes at most so many times `hangAfter`. */
const JOIN_MULTIPLE = 5;

/**
 * Keeps one member in service, beside the application's calls (Rule 10): joins it, watches it, probes it
 * when it is suspected, replaces its host when that hangs or dies, and starts again, until it is dismissed.
 */
export function* keepMember(group: Group, member: Member): Task<void> {
  try {
    yield* keepComing(group, member);
  } finally {
    member.recovery.releaseClaim();
  }
}

function* keepComing(group: Group, member: Member): Task<void> {
  const { port } = group;
  let failures = 0;
  let detours = 0;
  for (;;) {
    const order = group.orderFor(member);
    if (order !== undefined) {
      if (member.state.name !== 'drained') member.move({ name: 'drained', since: port.now(), reason: order });
      if (member.role.removedFor !== undefined) return;
      yield* rest(group, member);
      continue;
    }
    if (member.state.name !== 'joining') member.move({ name: 'joining', since: port.now() });
    const startedAt = port.now();
    claimReturning(group, member);
    const { reason, code, lasting, hasJoined } = yield* serveOnce(group, member);
    // Only who goes through a fresh host for it keeps the claim.
    if (reason !== FRESH_HOST && reason !== UNCOMPARED) member.recovery.releaseClaim();
    const hasDied = member.connection?.end !== undefined;
    if (member.connection !== undefined) yield* member.connection.giveUp(group.policy);
    if (group.orderFor(member) !== undefined) continue;
    // One that goes through a new host to catch up was not lost, and a fresh host is no failure; but for one whose host
    // has ended just then.
    const isDetour = member.recovery.isNeeded || [FRESH_HOST, SOMEBODY_ELSE, UNCOMPARED].includes(reason);
    const isOnItsWay = isDetour && hasJoined;
    if (port.now() - startedAt >= FORGIVEN_AFTER) [failures, detours] = [0, 0];
    failures += isOnItsWay ? 0 : 1;
    detours = isOnItsWay ? detours + 1 : 0;
    // The first try to come back is made at once; who goes round and round is slowed down too.
    const late = Math.max(reason === FRESH_HOST ? 1 : failures, detours - FREE_DETOURS, 1);
    const wait = rejoinAfter(late, port.random());
    const waitsForOperator = group.policy.recovery === 'manual' && member.role.hasServed && (!isDetour || hasDied);
    const isLasting = lasting || member.login.refusal !== undefined || waitsForOperator;
    const retryAt = isLasting ? FOREVER : port.now() + wait;
    member.recovery.noteRetried();
    member.move({ name: 'down', since: port.now(), reason, code, retryAt });
    while (
      port.now() < retryAt &&
      !member.recovery.mustRetryNow &&
      !member.recovery.mustRestartHost &&
      group.orderFor(member) === undefined
    )
      yield* race([member.ordersChanged], retryAt);
  }
}

/**
 * Until it is told something. While nobody serves, nobody can tell that another process has put it back: then its own
 * token is looked at, now and then.
 */
function* rest(group: Group, member: Member): Task<void> {
  const { port, policy, ledger, members } = group;
  const isLastHope = (): boolean =>
    ledger.isDrained(member.serial) &&
    !member.config.drained &&
    member.login.refusal === undefined &&
    member.login.refusedPins.size === 0 &&
    !members.some(({ isServing }) => isServing);
  if (!isLastHope()) {
    yield* race([member.ordersChanged, group.changed]);
    return;
  }
  const lookAt = port.now() + LOOK_AGAIN;
  yield* race([member.ordersChanged], lookAt);
  if (port.now() >= lookAt && isLastHope())
    yield* inspectOnSpareHost(group, member, port.now() + policy.hangAfter * JOIN_MULTIPLE);
}

interface Lost {
  readonly reason: string;
  readonly code: number | undefined;
  /** Coming back by itself is out of the question. */
  readonly lasting: boolean;
  /** Whether it got as far as logging in. */
  readonly hasJoined: boolean;
}

/** Brings a member into service and watches it until it is lost. */
function* serveOnce(group: Group, member: Member): Task<Lost> {
  const { port, policy } = group;
  const lost = (reason: string): Lost => ({ reason, code: undefined, lasting: false, hasJoined });
  let hasJoined = false;
  try {
    const joined = yield* join(group, member, port.now() + policy.hangAfter * JOIN_MULTIPLE);
    if (!joined.ok) return { ...joined, hasJoined };
    hasJoined = true;
    member.suspectedFor = undefined;
    const watch = new Watch(group, member);
    const refused = yield* awaitAdmission(group, member);
    if (refused !== undefined) return lost(refused);
    if (group.orderFor(member) === undefined) {
      const unsettled = yield* recover(group, member);
      if (unsettled !== undefined) return lost(unsettled);
      member.recovery.releaseClaim();
      member.suspectedFor = undefined;
      member.serve();
      shortenJournals(group);
    }
    return { ...lost(yield* watch.untilLost()), code: member.login.refusal };
  } catch (error) {
    // Whatever it was: a member that nobody keeps would never come back.
    return lost(error instanceof Error ? error.message : String(error));
  } finally {
    member.connection?.forgetSurvey();
  }
}

/** A token that is being made a member waits until the group knows it. */
function* awaitAdmission(group: Group, member: Member): Task<string | undefined> {
  const { connection, serial } = member;
  while (member.role.isBeingAdded && serial !== undefined && !group.ledger.isFilling(serial)) {
    if (connection === undefined || connection.end !== undefined) return 'the host ended before it was a member';
    if (member.role.removedFor !== undefined) return member.role.removedFor;
    yield* race([connection.ended, member.ordersChanged]);
  }
  return undefined;
}
