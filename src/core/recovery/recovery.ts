import { CKR } from '../../spec/codes.js';
import { step } from '../../spec/job.js';
import { refuse } from '../base/error.js';
import { FOREVER, type Task } from '../base/task.js';
import { race, sleepUntil } from '../base/waiting.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { resolveKey } from '../replicas/resolve.js';
import { announceFilled, bringUpToDate, learnRecord } from '../wrapping/membership-record.js';
import { compareWithOthers, fillMember } from './comparison.js';
import { removePartialObjects } from './partial-object.js';
import { reconcile } from './reconciliation.js';
import { notReconciled, type ReconciliationResult, stepLimit } from './reconciling.js';
import { refreshTokens } from './token-refresh.js';

/** Whoever else works on the same member, or a call that is late, is looked at again so often (ms). */
const LOOK_AGAIN = 25;

/** Hosts can be blind to what others have just written: who makes something good does it on one that starts after it has the claim. */
export const FRESH_HOST = 'it catches up on a fresh host';
export const SOMEBODY_ELSE = 'another process has brought it up to date';

/** Waits for the right to make a member what it has to be; gives what gives it back. */
export function* awaitClaim(group: Group, member: Member, deadline: number): Task<() => void> {
  for (;;) {
    const release = claimOf(group, member);
    if (release !== undefined) return release;
    if (group.port.now() >= deadline) refuse(CKR.functionFailed, `${member.name} is being brought up to date`);
    yield* sleepUntil(group.port.now() + LOOK_AGAIN);
  }
}

function claimOf({ port, ledger }: Group, { serial }: Member): (() => void) | undefined {
  return port.claim(`pkcs11-ha ${ledger.record?.id} ${serial}`);
}

/**
 * Takes the right to make a member what it has to be: one process at a time, so that nothing is made twice. For one
 * that returns it is taken before its host starts.
 */
export function claimReturning(group: Group, member: Member): void {
  if (group.ledger.record === undefined || !member.role.hasServed || member.serial === undefined) return;
  member.recovery.takeClaim(() => claimOf(group, member));
}

/** Before it serves, a member of a group with records does what it has missed. Ends with the reason when it cannot. */
export function* recover(group: Group, member: Member): Task<string | undefined> {
  const { port, ledger, isBeingCreated: isForming } = group;
  const { connection } = member;
  if (ledger.record === undefined || group.pin === undefined || isForming || connection === undefined) return undefined;
  member.move({ name: 'recovering', since: port.now() });
  // Nobody else watches it until it serves.
  const guard = port.start(endWhereItHangs(group, connection));
  try {
    const isClaimed = member.recovery.claim !== undefined;
    // Nobody waits for what it does now; the library's own threads are as they were when it serves.
    if (isClaimed) yield* giveWay(connection, true);
    let settled = yield* catchUp(group, member, isClaimed);
    if (isClaimed && settled.reason === undefined) yield* giveWay(connection, false);
    if (settled.reason === undefined) {
      port.start(removePartialObjects(group, member, connection));
      yield* bringSessionObjects(group, member, connection);
      // A call may have passed by meanwhile. From here on nothing is waited for until it serves.
      if (member.recovery.isNeeded && connection.end === undefined)
        settled = yield* reconcileUntilDone(group, member, isClaimed);
    }
    if (settled.reason === FRESH_HOST) return yield* claimFirst(group, member);
    if (settled.reason !== undefined) return settled.reason;
    if (connection.end !== undefined) return 'the host ended while it was settling';
    return judgeStaleness(group, member, settled.heard);
  } finally {
    if (!guard.completed) guard.cancel(undefined);
    connection.forgetSurvey();
  }
}

/** Where one of its calls does not return, the host is ended. */
function* endWhereItHangs(group: Group, connection: Connection): Task<void> {
  const { port, policy } = group;
  const patience = stepLimit(group);
  const limits = { hangAfter: patience, writeHangAfter: patience };
  while (!connection.isHung(port.now(), limits)) {
    const hungAt = connection.hungAt(limits);
    const until = port.now() + Math.max(LOOK_AGAIN, Math.min(patience, hungAt - port.now()));
    yield* race([connection.ended], until);
    if (connection.end !== undefined) return;
  }
  yield* connection.giveUp(policy);
}

/** Session objects of the application live on the host that they were made on. */
function* bringSessionObjects(group: Group, member: Member, connection: Connection): Task<void> {
  for (const object of [...group.objects.values()]) {
    if (object.session === undefined || connection.end !== undefined) continue;
    yield* resolveKey(group, member, connection, object, new PendingWork());
  }
}

function* giveWay(connection: Connection, gives: boolean): Task<void> {
  yield* connection.run({ steps: [step('X_GiveWay', gives)], sessionless: true }, 'recovery', FOREVER);
}

/** There is something to do: by this process, if it can have the claim, or else by the one that has it. */
function* claimFirst(group: Group, member: Member): Task<string> {
  const { port } = group;
  member.recovery.takeClaim(() => claimOf(group, member));
  if (member.recovery.claim !== undefined) return FRESH_HOST;
  const { connection } = member;
  while (connection !== undefined && connection.end === undefined) {
    const release = claimOf(group, member);
    release?.();
    if (release !== undefined) break;
    yield* race([connection.ended], port.now() + LOOK_AGAIN);
  }
  return SOMEBODY_ELSE;
}

function* catchUp(group: Group, member: Member, isClaimed: boolean): Task<ReconciliationResult> {
  const { ledger } = group;
  const isFilling = ledger.isFilling(member.serial);
  if (!isClaimed && (isFilling || isBehind(group, member))) return notReconciled(FRESH_HOST);
  // What others have in writing for it has to be seen as it is.
  if (isClaimed) yield* refreshTokens(group, othersInService(group, member));
  const outdated = yield* bringUpToDate(group, member);
  if (outdated !== undefined) return notReconciled(outdated);
  if (isFilling) {
    const unfilled = yield* fillMember(group, member);
    if (unfilled !== undefined) return notReconciled(unfilled);
  }
  let settled = yield* reconcileUntilDone(group, member, isClaimed);
  if (settled.reason !== undefined) return settled;
  if (isClaimed && !isFilling && (member.role.hasServed || settled.done > 0 || member.recovery.failedComparisons > 0)) {
    const uncompared = yield* compareWithOthers(group, member);
    if (uncompared !== undefined) return notReconciled(uncompared);
    if (member.recovery.isNeeded) settled = yield* reconcileUntilDone(group, member, isClaimed);
    if (settled.reason !== undefined) return settled;
  }
  if (isFilling) yield* announceFilled(group, member);
  return settled;
}

function othersInService({ members }: Group, member: Member): readonly Member[] {
  return members.filter((other) => other !== member && other.isServing);
}

/** Whether its record of the group is older than the one that is known here. */
function isBehind({ ledger: { record } }: Group, { connection }: Member): boolean {
  const own = connection?.records?.group?.record;
  if (record === undefined) return false;
  return own === undefined || own.revision < record.revision || connection?.records?.hasOlder === true;
}

/** Settles it, and again, when a call has passed by meanwhile. */
function* reconcileUntilDone(group: Group, member: Member, isClaimed: boolean): Task<ReconciliationResult> {
  let done = 0;
  for (;;) {
    const settled = yield* reconcile(group, member, isClaimed ? undefined : FRESH_HOST);
    done += settled.done;
    const isOver = !member.recovery.isNeeded || member.connection?.end !== undefined;
    if (isOver || settled.reason !== undefined) return { ...settled, done };
  }
}

/** Whether it misses changes that nobody has told it: who could, may be there and not have answered. */
function judgeStaleness(group: Group, member: Member, heard: ReadonlySet<string>): string | undefined {
  const untold = member.serial === undefined ? 0 : group.missed.unreachableCount(member.serial, heard);
  member.recovery.noteStale(
    untold === 0 ? undefined : `it has missed ${untold} changes, and the members that know them are away`,
  );
  return group.policy.stale === 'refuse' ? member.recovery.staleFor : undefined;
}

/** Whether a member's token still has an older record of the group than others. */
export function* isOutdated(group: Group, member: Member, deadline: number): Task<boolean> {
  if ((yield* learnRecord(group, member, deadline)) === 'unread') return false;
  return member.recovery.revision < (group.ledger.record?.revision ?? 0);
}
