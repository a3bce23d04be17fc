import type { TokenInfo } from '../../spec/calls.js';
import { CKF, CKR } from '../../spec/codes.js';
import { type Job, optional, step } from '../../spec/job.js';
import { verdictOn } from '../../spec/verdict.js';
import { FOREVER, type Running, type Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { endIfHung } from '../group/hang-guard.js';
import type { Member } from '../group/member.js';
import { aliasIn } from '../group/record-learning.js';
import { retryAfterRenewal } from '../group/repeated-reading.js';
import {
  findGroupByLabel,
  findRecords,
  foundIn,
  MOST_RECORDS,
  type RecordsFound,
  recordsAt,
  recordsIn,
} from '../records/ledger.js';
import { isLater } from '../records/record.js';
import { groupTemplate } from '../records/record-template.js';
import { JoinFailure } from './join-failure.js';
import { findToken, perform, replyIn, startLibrary, tryJob } from './library.js';
import { renewLogin } from './login-renewal.js';
import { logIn, logInWithOwnPin } from './pin-login.js';
import { learnFrom } from './pin-record.js';

/** Interval between looks at joining members that may still bring the group's record (ms). */
const LOOK_AGAIN = 25;
/** Tells whether a count of C_GetTokenInfo is a limit: not CK_EFFECTIVELY_INFINITE, CK_UNAVAILABLE_INFORMATION. */
const isLimit = (count: number): boolean => count > 0 && count < 0xffff_ffff;

/** Result of a join. If `lasting`, trying again cannot help, only an operator can. */
export type JoinResult =
  | { readonly ok: true }
  | { readonly ok: false; readonly reason: string; readonly lasting: boolean; readonly code: number | undefined };

/**
 * Joins a member: starts its host, loads the library, finds the token, opens the lanes, logs in and reads the group's
 * records. Ends by `endsAt`. With a later `loadUntil` the library may load until then, and the rest has its whole time
 * afterwards. After a failure the caller ends the host.
 */
export function* join(group: Group, member: Member, endsAt: number, loadUntil: number = endsAt): Task<JoinResult> {
  const within = endsAt - group.port.now();
  const connection = member.connect();
  member.recovery.noteHostStarted();
  connection.renewAfter = (failure) =>
    failure.kind === 'code' && verdictOn(failure.code, group.policy.verdicts) === 'session'
      ? renewLogin(group, member, connection)
      : undefined;
  const { config } = member;
  let guard: Running<void> | undefined;
  try {
    yield* startLibrary(group, member, connection, loadUntil);
    guard = group.port.start(endIfHung(group, connection));
    const deadline = loadUntil > endsAt ? group.port.now() + within : endsAt;
    const { slot, token } = yield* findToken(connection, config.token, deadline);
    checkToken(group, member, token);
    connection.slot = slot;
    member.manufacturer = token.manufacturerID;
    member.token = token;
    member.mechanisms = undefined;
    connection.lanes = lanesOf(config.lanes, token);
    connection.maxHeldSessions = maxHeldSessionsOf(connection.lanes, token);
    yield* perform(connection, attachingJob(group, member, slot, connection.lanes), deadline);
    connection.window = connection.lanes * 2;
    connection.isAttached = true;
    if (member.login.skipsLogin) {
      connection.hasLogin = true;
      return { ok: true };
    }
    if (member.login.ownPin !== undefined)
      yield* logInWithOwnPin(group, member, connection, member.login.ownPin, deadline);
    else if (group.pin !== undefined) yield* logIn(group, member, connection, token, deadline);
    connection.hasLogin = true;
    if (member.login.ownPin !== undefined || group.pin !== undefined)
      yield* learnRecords(group, member, connection, token, deadline);
    member.serial = token.serialNumber;
    member.lacking.clear();
    return { ok: true };
  } catch (error) {
    if (error instanceof JoinFailure)
      return { ok: false, reason: explained(error, connection), lasting: error.lasting, code: error.code };
    return {
      ok: false,
      reason: error instanceof Error ? error.message : String(error),
      lasting: false,
      code: undefined,
    };
  } finally {
    if (guard?.completed === false) guard.cancel(undefined);
  }
}

/** Returns the reason of a failure; a lack of sessions, and of environment variables, is explained. */
function explained({ message, code }: JoinFailure, { isAttached, withheld }: Connection): string {
  if (!isAttached && withheld.length > 0)
    return `${message} (the host did not get ${withheld.join(', ')}: if the library needs it, state it in the member's \`env\`)`;
  if (code !== CKR.sessionCount) return message;
  return `${message}: a member needs at least two sessions, one of them for its login; close those of other programs`;
}

/** Builds the job that opens the lanes' sessions. A host that writes alone also excludes other processes' hosts. */
function attachingJob({ coordinator }: Group, member: Member, slot: number, lanes: number): Job {
  const lock = member.writesExclusively ? coordinator.tokenLockOf(member.token?.serialNumber ?? '') : undefined;
  const useLock = lock === undefined ? [] : [optional(step('X_UseTokenLock', lock, groupTemplate))];
  return { steps: [...useLock, step('X_Attach', slot, lanes)], sessionless: true };
}

function checkToken(group: Group, member: Member, token: TokenInfo): void {
  if ((token.flags & CKF.tokenInitialized) === 0) throw new JoinFailure('the token is not initialized');
  if (member.serial !== undefined && member.serial !== token.serialNumber) {
    throw new JoinFailure(`another token was found: serial ${token.serialNumber} instead of ${member.serial}`);
  }
  // Compare with members that still join, too: of two that join at once, the first to find the token has it.
  const twin = group.members.find(
    ({ token: held, name, role }) =>
      name !== member.name && role.removedFor === undefined && held?.serialNumber === token.serialNumber,
  );
  if (twin !== undefined)
    throw new JoinFailure(
      `${twin.name} has the same token, or another one with the serial ${token.serialNumber}: configure each token once`,
      true,
      CKR.actionProhibited,
    );
}

/** Reads the group's records on the token, and checks that the token is a member; throws JoinFailure if it is not. */
function* learnRecords(
  group: Group,
  member: Member,
  connection: Connection,
  token: TokenInfo,
  deadline: number,
): Task<void> {
  const job: Job = { steps: findRecords };
  const end = yield* retryAfterRenewal(connection, () => tryJob(connection, job, deadline), deadline);
  const read = recordsAt(group.ledger.trust, replyIn(connection, job, end), 0);
  group.invalidRecords.note(member, 'cut', read.isCut ? MOST_RECORDS : 0);
  // The group's record may be among those that were not read.
  const records = read.isCut ? { ...read, group: yield* readGroupRecord(group, connection, deadline) } : read;
  const own = records.group?.record;
  connection.records = records;
  group.invalidRecords.note(member, 'groupwide', records.invalid);
  group.invalidRecords.note(member, 'refused', records.refused);
  member.recovery.setOfGroup(false);
  // If the member is being added, its records are not yet those of this group.
  if (records.newer && !member.role.isBeingAdded) group.ledger.isNewer = true;
  if (group.isBeingCreated || member.role.isBeingAdded) return;
  group.changed.fire();
  if (own === undefined) yield* awaitRecord(group, member, connection, deadline);
  const known = group.ledger.record;
  const { serialNumber } = token;
  // A new member that is being filled gets its record from the others.
  const isExpected = known !== undefined && group.ledger.isFilling(serialNumber);
  if (own === undefined) {
    if (records.refused > 0)
      throw new JoinFailure('the group record on the token is not signed with the administration key');
    if (known !== undefined && !isExpected)
      throw new JoinFailure(`the token has no group record; the other members are of the group ${known.label}`);
    if (isExpected) member.recovery.setOfGroup(true);
    return;
  }
  if (known !== undefined && known.id !== own.id)
    throw new JoinFailure(`the token belongs to another group: ${own.label}`, true);
  const newest = known === undefined || isLater(own, known) ? own : known;
  if (!newest.members.some(({ serial }) => serial === serialNumber)) {
    if (own.members.some(({ serial }) => serial === serialNumber))
      throw new JoinFailure('the token was removed from the group', true);
    throw new JoinFailure(`the group ${own.label} does not know this token (serial ${serialNumber})`, true);
  }
  group.adopt(own);
  for (const { record } of records.aliases) group.objects.addAlias(aliasIn(record));
  if (records.pins.length > 0) yield* learnFrom(group, { name: member.name, connection }, deadline);
  member.recovery.setOfGroup(true);
  for (const other of group.members) {
    if (other.isActive && !other.recovery.isOfGroup && other.connection !== undefined)
      other.suspect(other.connection, 'the token has no group record');
  }
}

/** Reads the group record by its label. */
function* readGroupRecord(group: Group, connection: Connection, deadline: number): Task<RecordsFound['group']> {
  const job: Job = { steps: [findGroupByLabel] };
  const end = yield* retryAfterRenewal(connection, () => tryJob(connection, job, deadline), deadline);
  return recordsIn(group.ledger.trust, foundIn(replyIn(connection, job, end), 0)).group;
}

/**
 * Waits until the other members can tell whether the group has a record. A token without one is of a group without
 * records, or a blank token in a member's place. Members that have served, failed or hang are not waited for.
 */
function* awaitRecord(group: Group, member: Member, connection: Connection, deadline: number): Task<void> {
  const { port, policy, ledger, members } = group;
  if (!members.includes(member) || member.role.hasServed) return;
  for (;;) {
    const now = port.now();
    const awaited = members.filter(
      (other) => isJoiningFirst(other) && other !== member && other.connection?.isHung(now, policy) !== true,
    );
    if (ledger.record !== undefined || awaited.length === 0 || now >= deadline) return;
    if (connection.end !== undefined) throw new JoinFailure(connection.end.reason);
    const hungAt = awaited.map((other) => other.connection?.hungAt(policy) ?? FOREVER);
    const lookAt = Math.max(now + LOOK_AGAIN, Math.min(...hungAt));
    yield* race([group.changed, connection.ended], Math.min(deadline, lookAt));
  }
}

/** Returns true while the member joins for the first time and its records have not been read. */
function isJoiningFirst({ state, role: { hasServed }, connection }: Member): boolean {
  return state.name === 'joining' && !hasServed && connection?.records === undefined;
}

/** Returns the number of sessions that the token allows besides the login session. */
function sessionsOf({ maxSessionCount, maxRwSessionCount }: TokenInfo): number {
  return Math.min(...[maxSessionCount, maxRwSessionCount].filter(isLimit).map((limit) => limit - 1), FOREVER);
}

/** Returns the number of lanes: at least one; if the token allows more than two, one session is left for streams. */
function lanesOf(wanted: number, token: TokenInfo): number {
  const sessions = sessionsOf(token);
  return Math.max(1, Math.min(wanted, sessions > 2 ? sessions - 1 : sessions));
}

/** Returns the maximum number of sessions that streams may hold. */
function maxHeldSessionsOf(lanes: number, token: TokenInfo): number {
  return Math.max(1, Math.min(lanes, sessionsOf(token) - lanes));
}
