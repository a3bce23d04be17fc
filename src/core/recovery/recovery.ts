import { CKR } from '../../spec/codes.js';
import { step } from '../../spec/job.js';
import { refuse } from '../base/error.js';
import { FOREVER, type Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { HeldClaim } from '../coordination/coordinator.js';
import { type ClaimedWork, holderOf, takeClaim } from '../group/claimed-work.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { endIfHung } from '../group/hang-guard.js';
import { PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { refreshTokens } from '../joining/token-refresh.js';
import { isLater } from '../records/record.js';
import { resolveKey } from '../replicas/resolve.js';
import { announceFilled, bringUpToDate } from '../wrapping/group-record-publication.js';
import { learnRecord } from '../wrapping/group-record-reading.js';
import { compareWithOthers } from './comparison.js';
import { fillMember } from './filling.js';
import { removePartialObjects } from './partial-object.js';
import { isFromPast } from './past.js';
import { reconcile } from './reconciliation.js';
import { notReconciled, type ReconciliationResult } from './reconciling.js';
import { failedBecause, type RecoveryFailure, type RecoveryResult } from './recovery-result.js';

/** Interval between looks at a claim that another process holds (ms). */
const LOOK_INTERVAL = 25;

const needsFreshHost: RecoveryFailure = { kind: 'needsFreshHost' };

/** Waits for the claim on a member's recovery. Throws at the deadline. */
export function* awaitRecoveryClaim(group: Group, member: Member, deadline: number): Task<HeldClaim> {
  const work = recoveryOf(member);
  const claim = yield* takeClaim(group, work, deadline);
  if (claim !== undefined) return claim;
  const holder = holderOf(group, work) ?? 'another process';
  return refuse(CKR.functionFailed, `${holder} is bringing ${member.name} up to date; try again later`);
}

const recoveryOf = ({ serial }: Member): ClaimedWork => `member ${serial ?? ''}`;

/**
 * Takes the claim on the recovery of a returning member, before its host starts. Only one process at a time recovers a
 * member, so that no object is made twice.
 */
export function* claimReturning(group: Group, member: Member): Task<void> {
  if (group.ledger.record === undefined || !member.role.hasServed || member.serial === undefined) return;
  yield* claimRecovery(group, member);
}

/** Takes the claim on a member's recovery if no process has it; keeps one that this process has. */
function* claimRecovery(group: Group, member: Member): Task<void> {
  if (member.recovery.claim === undefined)
    member.recovery.keepClaim(yield* takeClaim(group, recoveryOf(member), group.port.now()));
}

/** Recovers a member before it serves, if its group has records: resolves intents, catches up, compares. */
export function* recover(group: Group, member: Member): Task<RecoveryResult> {
  const { port, ledger, isBeingCreated } = group;
  const { connection } = member;
  if (ledger.record === undefined || group.pin === undefined || isBeingCreated || connection === undefined)
    return { kind: 'recovered' };
  member.move({ name: 'recovering', since: port.now(), reason: '' });
  // Until the member serves, no watch ends a hung host; this guard does.
  const guard = port.start(endIfHung(group, connection));
  try {
    const isClaimed = member.recovery.claim !== undefined;
    // The host runs at low priority during recovery and returns to normal before the member serves.
    if (isClaimed) yield* setLowPriority(connection, true);
    let result = yield* catchUp(group, member, isClaimed);
    if (isClaimed && result.failure === undefined) yield* setLowPriority(connection, false);
    if (result.failure === undefined) {
      port.start(removePartialObjects(group, member, connection));
      yield* bringSessionObjects(group, member, connection);
      // If the member missed a call meanwhile, reconcile again. From here on nothing is waited for until it serves.
      if (member.recovery.isNeeded && connection.end === undefined)
        result = yield* reconcileUntilDone(group, member, isClaimed);
    }
    if (result.failure?.kind === 'needsFreshHost') return yield* awaitClaimOrRecovery(group, member);
    if (result.failure !== undefined) return result.failure;
    if (connection.end !== undefined) return failedBecause('the host ended during recovery');
    member.recovery.noteHeard(hasHeardAll(group, member, result.heard));
    member.recovery.scheduleRetry(port.now(), port.random());
    if (member.recovery.failedChanges.size === 0 && !member.recovery.hasUnheard)
      group.coordinator.forgetMissed(member.serial ?? '', member.recovery.notes);
    return judgeStaleness(group, member, result.heard);
  } finally {
    if (!guard.completed) guard.cancel(undefined);
    connection.forgetSurvey();
  }
}

/** Makes the application's session objects on the new host. */
function* bringSessionObjects(group: Group, member: Member, connection: Connection): Task<void> {
  for (const object of [...group.objects.values()]) {
    if (object.session === undefined || connection.end !== undefined) continue;
    yield* resolveKey(group, member, connection, object, new PendingWork());
  }
}

function* setLowPriority(connection: Connection, isLow: boolean): Task<void> {
  yield* connection.run({ steps: [step('X_GiveWay', isLow)], sessionless: true }, 'recovery', FOREVER);
}

/** Takes the claim for a fresh host. If another process has the claim, waits until that process has released it. */
function* awaitClaimOrRecovery(group: Group, member: Member): Task<RecoveryFailure> {
  const { port, coordinator } = group;
  yield* claimRecovery(group, member);
  if (member.recovery.claim !== undefined) return needsFreshHost;
  const { connection } = member;
  while (connection !== undefined && connection.end === undefined) {
    const holder = holderOf(group, recoveryOf(member));
    if (holder === undefined) break;
    member.explain(`${holder} is bringing the member up to date`);
    yield* race([connection.ended, coordinator.releases], port.now() + LOOK_INTERVAL);
  }
  return { kind: 'recoveredElsewhere' };
}

/** Brings the member into step. Without the claim, only tells whether there is something to do. */
function* catchUp(group: Group, member: Member, isClaimed: boolean): Task<ReconciliationResult> {
  const { ledger } = group;
  const isFilling = ledger.isFilling(member.serial);
  const isPast = yield* isFromPast(group, member);
  if (!isClaimed && (isFilling || isPast || isBehind(group, member))) return notReconciled(needsFreshHost);
  // The other members' journal entries must be seen as they are now.
  if (isClaimed) yield* refreshTokens(group, othersInService(group, member));
  const outdated = yield* bringUpToDate(group, member);
  if (outdated !== undefined) return notReconciled(failedBecause(outdated));
  if (isFilling) {
    const unfilled = yield* fillMember(group, member);
    if (unfilled !== undefined) return notReconciled(unfilled);
  }
  let result = yield* reconcileUntilDone(group, member, isClaimed);
  if (result.failure !== undefined) return result;
  const { role, recovery } = member;
  const isDoubted = isPast || role.hasServed || result.done > 0 || recovery.failedComparisons > 0;
  if (isClaimed && !isFilling && isDoubted) {
    const uncompared = yield* compareWithOthers(group, member);
    if (uncompared !== undefined) return notReconciled(uncompared);
    if (recovery.isNeeded) result = yield* reconcileUntilDone(group, member, isClaimed);
    if (result.failure !== undefined) return result;
  }
  if (isFilling) yield* announceFilled(group, member);
  return result;
}

function othersInService({ members }: Group, member: Member): readonly Member[] {
  return members.filter((other) => other !== member && other.isServing);
}

/** Returns true if the member's group record is older than the one that this process knows. */
function isBehind({ ledger: { record } }: Group, { connection }: Member): boolean {
  const own = connection?.records?.group?.record;
  if (record === undefined) return false;
  return own === undefined || isLater(record, own) || connection?.records?.hasOlder === true;
}

/** Reconciles a member, and again while it misses calls meanwhile. */
function* reconcileUntilDone(group: Group, member: Member, isClaimed: boolean): Task<ReconciliationResult> {
  let done = 0;
  for (;;) {
    const result = yield* reconcile(group, member, isClaimed ? undefined : needsFreshHost);
    done += result.done;
    const isOver = !member.recovery.isNeeded || member.connection?.end !== undefined;
    if (isOver || result.failure !== undefined) return { ...result, done };
  }
}

/** Returns true if the journals of all other members were read: then the member lacks nothing. */
function hasHeardAll({ ledger }: Group, member: Member, heard: ReadonlySet<string>): boolean {
  return ledger.record?.members.every(({ serial }) => serial === member.serial || heard.has(serial)) === true;
}

/** Notes whether the member lacks changes that no reachable member told; fails if policy.stale refuses such members. */
function judgeStaleness(group: Group, member: Member, heard: ReadonlySet<string>): RecoveryResult {
  group.missed.forgetLeft((serial) => group.ledger.isMember(serial));
  const count = member.serial === undefined ? 0 : group.missed.unreachableCount(member.serial, heard);
  const changes = count === 1 ? '1 change' : `${count} changes`;
  const reason =
    count === 0 ? undefined : `the member has missed ${changes}, and no member that knows them can be reached`;
  member.recovery.noteStale(reason);
  return reason !== undefined && group.policy.stale === 'refuse' ? failedBecause(reason) : { kind: 'recovered' };
}

/** Returns true if a member's token has an older group record than this process knows. */
export function* isOutdated(group: Group, member: Member, deadline: number): Task<boolean> {
  if ((yield* learnRecord(group, member, deadline)) === 'unread') return false;
  return member.recovery.revision < (group.ledger.record?.revision ?? 0);
}
