import { rejoinAfter } from '../base/backoff.js';
import { FOREVER, type Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import { whileClaimed } from '../group/claimed-work.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { join } from '../joining/join.js';
import { inspectOnSpareHost } from '../joining/spare-host.js';
import { shortenJournals } from '../recovery/journal.js';
import { doubtOlder } from '../recovery/past.js';
import { claimReturning, recover } from '../recovery/recovery.js';
import { failedBecause, type RecoveryFailure, reasonOf } from '../recovery/recovery-result.js';
import { FORGIVEN_AFTER, Watch } from './watch.js';

/** Polling interval for a drained member while no member serves (ms). */
const DRAINED_POLL = 2000;
/** Number of hosts in a row that a member may use up for catching up before it must wait between them. */
const FREE_DETOURS = 4;
/** Multiple of `hangAfter` that a join may take at most. */
const JOIN_MULTIPLE = 5;
/** Multiple of `hangAfter` within which a library loads: some read all of a token's objects then. */
const LOAD_MULTIPLE = 15;

/**
 * Keeps one member in service, beside the application's calls (Rule 10), until the member is removed. Joins the member,
 * watches it, and joins it again on a new host when the old host hangs or dies.
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
      yield* restDrained(group, member);
      continue;
    }
    if (member.state.name !== 'joining') member.move({ name: 'joining', since: port.now() });
    const startedAt = port.now();
    const { cause, code, lasting, hasJoined } = yield* serveOnce(group, member);
    // Keep the claim only if the member goes on catching up on a fresh host.
    if (cause.kind !== 'needsFreshHost' && cause.kind !== 'notCompared') member.recovery.releaseClaim();
    const hasDied = member.connection?.end !== undefined;
    if (member.connection !== undefined) yield* member.connection.giveUp(group.policy);
    if (group.orderFor(member) !== undefined) continue;
    // A change of hosts for catching up is a detour, and not a failure.
    const isDetour = member.recovery.isNeeded || cause.kind !== 'failed';
    const isOnItsWay = isDetour && hasJoined;
    if (port.now() - startedAt >= FORGIVEN_AFTER) [failures, detours] = [0, 0];
    failures += isOnItsWay ? 0 : 1;
    detours = isOnItsWay ? detours + 1 : 0;
    // The first try to come back is made at once; both failures and repeated detours lengthen the wait.
    const late = Math.max(cause.kind === 'needsFreshHost' ? 1 : failures, detours - FREE_DETOURS, 1);
    const wait = rejoinAfter(late, port.random());
    const waitsForOperator = group.policy.recovery === 'manual' && member.role.hasServed && (!isDetour || hasDied);
    const isLasting = lasting || member.login.refusal !== undefined || waitsForOperator;
    const retryAt = isLasting ? FOREVER : port.now() + wait;
    member.recovery.noteRetried();
    member.move({ name: 'down', since: port.now(), reason: reasonOf(cause), code, retryAt });
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
 * Waits until the orders of a drained member change. While no member serves, only the drained member's own token can
 * tell that another process has put the member back: the token is then read at intervals.
 */
function* restDrained(group: Group, member: Member): Task<void> {
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
  const lookAt = port.now() + DRAINED_POLL;
  yield* race([member.ordersChanged], lookAt);
  if (port.now() >= lookAt && isLastHope())
    yield* inspectOnSpareHost(group, member, port.now() + policy.hangAfter * JOIN_MULTIPLE);
}

/** Loss of a member: its reason, and how far the member had come. */
interface Lost {
  readonly cause: RecoveryFailure;
  readonly code: number | undefined;
  /** True if the member cannot come back by itself. */
  readonly lasting: boolean;
  /** True if the member got as far as logging in. */
  readonly hasJoined: boolean;
}

/** Brings a member into service and watches it until it is lost. */
function* serveOnce(group: Group, member: Member): Task<Lost> {
  const { port, policy } = group;
  const lost = (cause: RecoveryFailure): Lost => ({ cause, code: undefined, lasting: false, hasJoined });
  let hasJoined = false;
  try {
    yield* claimReturning(group, member);
    const now = port.now();
    const { hangAfter } = policy;
    const joined = yield* join(group, member, now + hangAfter * JOIN_MULTIPLE, now + hangAfter * LOAD_MULTIPLE);
    if (!joined.ok) {
      const { reason, code, lasting } = joined;
      return { cause: failedBecause(reason), code, lasting, hasJoined };
    }
    hasJoined = true;
    member.suspectedFor = undefined;
    const joinedAt = port.now();
    const refused = yield* awaitAdmission(group, member);
    if (refused !== undefined) return lost(failedBecause(refused));
    if (group.orderFor(member) === undefined) {
      const { claim } = member.recovery;
      const recovering = recover(group, member);
      const recovery = claim === undefined ? yield* recovering : yield* whileClaimed(group, [claim], recovering);
      if (recovery.kind !== 'recovered') return lost(recovery);
      member.recovery.releaseClaim();
      member.suspectedFor = undefined;
      member.serve();
      group.recoveryTurns.noteService();
      doubtOlder(group, member);
      shortenJournals(group);
    }
    const watch = new Watch(group, member, port.now() - joinedAt);
    return { ...lost(yield* watch.untilLost()), code: member.login.refusal };
  } catch (error) {
    // Any error: without this task the member would never come back.
    return lost(failedBecause(error instanceof Error ? error.message : String(error)));
  } finally {
    member.connection?.forgetSurvey();
  }
}

/** Waits until the group's record names a token that is being added; returns the reason when that will not happen. */
function* awaitAdmission(group: Group, member: Member): Task<string | undefined> {
  const { connection, serial, role } = member;
  while (role.isBeingAdded && serial !== undefined && !group.ledger.isFilling(serial)) {
    if (role.isAdmitted && group.ledger.isMember(serial)) {
      // Another process has filled the member meanwhile.
      role.endAdding();
      member.recovery.setOfGroup(true);
      return undefined;
    }
    if (connection === undefined || connection.end !== undefined) return 'the host ended before the token was a member';
    if (role.removedFor !== undefined) return role.removedFor;
    yield* race([connection.ended, member.ordersChanged]);
  }
  if (role.isBeingAdded) role.noteAdmitted();
  return undefined;
}
