import type { TokenInfo } from '../spec/calls.js';
import { ck, codeName } from '../spec/constants.js';
import { type Job, type JobReply, resultOf, step } from '../spec/job.js';
import { verdictOn } from '../spec/verdict.js';
import type { TokenSelector } from './configuration.js';
import type { Connection } from './connection.js';
import type { Group } from './group.js';
import { findRecords, foundIn, recordsIn } from './ledger.js';
import type { Member } from './member.js';
import { failureOf, type JobOutcome } from './outcome.js';
import { isLater } from './record.js';
import { loginJob } from './session.js';
import type { Task } from './task.js';

const alreadyLoggedIn = ck('CKR_USER_ALREADY_LOGGED_IN');
const alreadyInitialized = ck('CKR_CRYPTOKI_ALREADY_INITIALIZED');
const pinLocked = ck('CKR_PIN_LOCKED');
const CKF_TOKEN_INITIALIZED = ck('CKF_TOKEN_INITIALIZED');
const CKF_USER_PIN_COUNT_LOW = ck('CKF_USER_PIN_COUNT_LOW');
const CKF_USER_PIN_FINAL_TRY = ck('CKF_USER_PIN_FINAL_TRY');
const CKF_USER_PIN_LOCKED = ck('CKF_USER_PIN_LOCKED');
/** So many logins without an answer are made on a member while the PIN is not proven. */
const MOST_UNKNOWN_LOGINS = 3;
/** Session counts that are no counts: effectively infinite, unavailable. */
const isLimit = (count: number): boolean => count > 0 && count < 0xffff_ffff;

/** `lasting`: trying again cannot help, only an operator can. */
export type JoinResult =
  | { readonly ok: true }
  | { readonly ok: false; readonly reason: string; readonly lasting: boolean; readonly code: number | undefined };

class JoinFailure extends Error {
  constructor(
    reason: string,
    readonly lasting: boolean = false,
    readonly code?: number,
  ) {
    super(reason);
  }
}

/**
 * Brings a member into service: starts its host, loads the library, finds the token, opens the lanes, logs
 * in. Ends by `deadline`; on a failure the host is left for the caller to end.
 */
export function* join(group: Group, member: Member, deadline: number): Task<JoinResult> {
  const connection = member.connect();
  const { config } = member;
  try {
    connection.attachHost(
      group.port.startHost(
        { name: member.name, env: config.env },
        { replied: (reply) => connection.replied(reply), ended: (end) => connection.hostEnded(end) },
      ),
    );
    yield* load(connection, config.module, config.libraryParameters, deadline);
    const { slot, token } = yield* findToken(connection, config.token, deadline);
    checkToken(group, member, token);
    connection.slot = slot;
    connection.lanes = lanesOf(config.lanes, token);
    yield* perform(connection, { steps: [step('X_Attach', slot, connection.lanes)], sessionless: true }, deadline);
    connection.window = connection.lanes * 2;
    if (group.pin !== undefined) {
      yield* login(group, member, connection, token, deadline);
      yield* learnRecords(group, member, connection, token, deadline);
    }
    member.serial = token.serialNumber;
    member.manufacturer = token.manufacturerID;
    member.lacking.clear();
    return { ok: true };
  } catch (error) {
    if (error instanceof JoinFailure)
      return { ok: false, reason: error.message, lasting: error.lasting, code: error.code };
    return {
      ok: false,
      reason: error instanceof Error ? error.message : String(error),
      lasting: false,
      code: undefined,
    };
  }
}

/** Runs a job of the join; whatever is not success ends the join with a reason. */
function* perform(connection: Connection, job: Job, deadline: number): Task<JobReply> {
  const ticket = connection.submit(job, 'join', deadline);
  if (!ticket.settled) yield { signals: [ticket], until: deadline };
  const { outcome } = ticket;
  const name = job.steps.at(-1)?.call ?? '';
  if (outcome === undefined) throw new JoinFailure(`${name} did not answer in time`);
  if (outcome.kind === 'lost') throw new JoinFailure(`${outcome.reason} in ${name}`);
  if (outcome.kind === 'fault') throw outcome.error;
  const failure = failureOf(outcome);
  if (failure?.kind === 'code')
    throw new JoinFailure(`${failure.function} answered ${codeName(failure.code)}`, false, failure.code);
  if (outcome.kind === 'withdrawn') throw new JoinFailure(connection.end?.reason ?? `${name} was not begun in time`);
  return outcome.reply;
}

function* load(connection: Connection, path: string, parameters: string, deadline: number): Task<void> {
  const ticket = connection.submit({ steps: [step('X_Load', path, parameters)], sessionless: true }, 'join', deadline);
  if (!ticket.settled) yield { signals: [ticket], until: deadline };
  const { outcome } = ticket;
  if (outcome?.kind === 'reply') {
    const [result] = outcome.reply.results;
    if (result?.code === 0 || result?.code === alreadyInitialized) return;
    const problem =
      typeof result?.value === 'string' && result.value !== ''
        ? result.value
        : `C_Initialize answered ${codeName(result?.code ?? 5)}`;
    throw new JoinFailure(`${path} cannot be loaded: ${problem}`);
  }
  throw new JoinFailure(
    outcome?.kind === 'lost'
      ? `${outcome.reason} while loading ${path}`
      : (connection.end?.reason ?? `${path} did not load in time`),
  );
}

interface FoundToken {
  readonly slot: number;
  readonly token: TokenInfo;
}

function* findToken(connection: Connection, selector: TokenSelector, deadline: number): Task<FoundToken> {
  const slots = resultOf(
    yield* perform(connection, { steps: [step('C_GetSlotList', true)], sessionless: true }, deadline),
    0,
    'C_GetSlotList',
  );
  const found: FoundToken[] = [];
  for (const slot of slots) {
    const job: Job = { steps: [step('C_GetTokenInfo', slot)], sessionless: true };
    const ticket = connection.submit(job, 'join', deadline);
    if (!ticket.settled) yield { signals: [ticket], until: deadline };
    // One slot that cannot tell about its token is no reason to miss the others.
    if (ticket.outcome?.kind === 'reply' && failureOf(ticket.outcome) === undefined) {
      found.push({ slot, token: resultOf(ticket.outcome.reply, 0, 'C_GetTokenInfo') });
    } else if (ticket.outcome?.kind !== 'reply') {
      throw new JoinFailure(connection.end?.reason ?? 'C_GetTokenInfo did not answer in time');
    }
  }
  const matching = found.filter(({ slot, token }) => {
    if (selector.serial !== undefined) return token.serialNumber === selector.serial;
    if (selector.label !== undefined) return token.label === selector.label;
    return slots.indexOf(slot) === selector.slot;
  });
  const wanted = Object.entries(selector)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key} ${value}`)
    .join('');
  const [first] = matching;
  if (first === undefined) throw new JoinFailure(`no token with ${wanted} among the ${found.length} of the module`);
  if (matching.length > 1) throw new JoinFailure(`${matching.length} tokens have ${wanted}: select by serial`, true);
  return first;
}

function checkToken(group: Group, member: Member, token: TokenInfo): void {
  if ((token.flags & CKF_TOKEN_INITIALIZED) === 0) throw new JoinFailure('the token is not initialized');
  if (member.serial !== undefined && member.serial !== token.serialNumber) {
    throw new JoinFailure(`another token is there: serial ${token.serialNumber} instead of ${member.serial}`);
  }
  const twin = group.members.find(({ serial, name }) => name !== member.name && serial === token.serialNumber);
  if (twin !== undefined)
    throw new JoinFailure(`it is the same token as that of ${twin.name} (serial ${token.serialNumber})`, true);
}

/** Reads the group's records: whether the member is one of the group, and under which names its objects go. */
function* learnRecords(
  group: Group,
  member: Member,
  connection: Connection,
  token: TokenInfo,
  deadline: number,
): Task<void> {
  const reply = yield* perform(connection, { steps: [findRecords] }, deadline);
  const records = recordsIn(foundIn(reply, 0));
  const own = records.group?.record;
  connection.records = records;
  member.isOfGroup = false;
  if (records.newer) group.ledger.isNewer = true;
  if (group.isForming || member.isApplicant) return;
  const known = group.ledger.record;
  const { serialNumber } = token;
  // A new member that the others know gets its record from them.
  const isExpected = known !== undefined && group.ledger.isFilling(serialNumber);
  if (own === undefined) {
    if (known !== undefined && !isExpected)
      throw new JoinFailure(`it has no group record, the others are of group ${known.label}`);
    if (isExpected) member.isOfGroup = true;
    return;
  }
  if (known !== undefined && known.id !== own.id)
    throw new JoinFailure(`it belongs to another group: ${own.label}`, true);
  const newest = known === undefined || isLater(own, known) ? own : known;
  if (!newest.members.some(({ serial }) => serial === serialNumber)) {
    if (own.members.some(({ serial }) => serial === serialNumber))
      throw new JoinFailure('it was removed from the group', true);
    throw new JoinFailure(`the group ${own.label} does not know this token (serial ${serialNumber})`, true);
  }
  group.adopt(own);
  for (const { record } of records.aliases) group.objects.learnAliases(group.ledger.addAlias(record));
  member.isOfGroup = true;
  for (const other of group.members) {
    if (other.isActive && !other.isOfGroup && other.connection !== undefined)
      other.suspect(other.connection, 'it has no group record');
  }
}

/** One session is kept for the login and one lane must remain. */
function lanesOf(wanted: number, token: TokenInfo): number {
  const limits = [token.maxSessionCount, token.maxRwSessionCount].filter(isLimit).map((limit) => limit - 1);
  return Math.max(1, Math.min(wanted, ...limits));
}

function* login(group: Group, member: Member, connection: Connection, token: TokenInfo, deadline: number): Task<void> {
  const { logins, pin } = group;
  if (pin === undefined) return;
  if (member.refusal !== undefined)
    throw new JoinFailure(`${codeName(member.refusal)} at the login before`, true, member.refusal);
  if ((token.flags & CKF_USER_PIN_LOCKED) !== 0)
    throw new JoinFailure("the token's user PIN is locked", true, pinLocked);
  while (!logins.enter()) {
    if (logins.isRefused) {
      const { code, member: where } = logins.refusal ?? { code: 0, member: '' };
      throw new JoinFailure(`no login is tried after ${codeName(code)} on ${where}`, true);
    }
    if (group.port.now() >= deadline) throw new JoinFailure('another member is still logging in');
    yield { signals: [logins.changed, connection.ended], until: deadline };
    if (connection.end !== undefined) throw new JoinFailure(connection.end.reason);
  }
  if (!logins.isProven && mayHaveBeenRefused(member, token)) {
    logins.leave('unknown', 0, member.name);
    throw new JoinFailure('logins ended without an answer, and the PIN is not known to be right', true);
  }
  const ticket = connection.submit(loginJob(pin), 'join', deadline);
  // The others wait for the first login; one that hangs must not hold them up for long.
  const patience = Math.min(deadline, group.port.now() + group.policy.hangAfter);
  if (!ticket.settled) yield { signals: [ticket], until: patience };
  const isLate = !ticket.settled;
  if (isLate) {
    logins.leave('unknown', 0, member.name);
    yield { signals: [ticket], until: deadline };
  }
  const { outcome, reason, refused } = judgeLogin(group, member, ticket.outcome);
  // One that was late has given its turn back: only what says something about the PIN is told then.
  if (!isLate || outcome !== 'unknown') logins.leave(outcome, member.refusal ?? 0, member.name);
  if (outcome !== 'right') throw new JoinFailure(reason, refused, refused ? member.refusal : undefined);
}

/** Of a PIN that has not been proven too many tries may lock the token, also those whose outcome nobody knows. */
function mayHaveBeenRefused(member: Member, token: TokenInfo): boolean {
  if (member.unknownLogins === 0) return false;
  return (
    member.unknownLogins >= MOST_UNKNOWN_LOGINS ||
    (token.flags & (CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY)) !== 0
  );
}

interface LoginJudgement {
  readonly outcome: 'right' | 'wrong' | 'unknown';
  readonly reason: string;
  readonly refused: boolean;
}

function judgeLogin(group: Group, member: Member, outcome: JobOutcome | undefined): LoginJudgement {
  const failure = outcome === undefined ? undefined : failureOf(outcome);
  const code = failure?.kind === 'code' ? failure.code : 0;
  if (outcome !== undefined && (failure === undefined || code === alreadyLoggedIn)) {
    member.unknownLogins = 0;
    return { outcome: 'right', reason: '', refused: false };
  }
  if (failure?.kind === 'code') {
    const refused = verdictOn(code, group.policy.verdicts) === 'credential';
    if (refused) member.refusal = code;
    // A locked PIN says nothing of the PIN that was tried.
    return {
      outcome: refused && code !== pinLocked ? 'wrong' : 'unknown',
      reason: `C_Login answered ${codeName(code)}`,
      refused,
    };
  }
  member.unknownLogins += 1;
  const reason = failure?.kind === 'lost' ? `${failure.reason} in C_Login` : 'C_Login did not answer in time';
  return { outcome: 'unknown', reason, refused: false };
}
