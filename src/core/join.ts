import type { TokenInfo } from '../spec/calls.js';
import { ck, codeName } from '../spec/constants.js';
import { type Job, type JobReply, resultOf, step } from '../spec/job.js';
import { verdictOn } from '../spec/verdict.js';
import type { TokenSelector } from './configuration.js';
import type { Connection } from './connection.js';
import type { Group } from './group.js';
import { JoinFailure } from './join-failure.js';
import { findRecords, foundIn, recordsIn } from './ledger.js';
import type { Member } from './member.js';
import { type Failure, failureOf, isFailure, type JobOutcome } from './outcome.js';
import { logIn, logInApart } from './pin-login.js';
import { learnFrom } from './pin-record.js';
import { isLater } from './record.js';
import { renewLogin } from './session.js';
import type { Task } from './task.js';

const alreadyInitialized = ck('CKR_CRYPTOKI_ALREADY_INITIALIZED');
const actionProhibited = ck('CKR_ACTION_PROHIBITED');
const CKF_TOKEN_INITIALIZED = ck('CKF_TOKEN_INITIALIZED');
/** Session counts that are no counts: effectively infinite, unavailable. */
const isLimit = (count: number): boolean => count > 0 && count < 0xffff_ffff;

/** `lasting`: trying again cannot help, only an operator can. */
export type JoinResult =
  | { readonly ok: true }
  | { readonly ok: false; readonly reason: string; readonly lasting: boolean; readonly code: number | undefined };

/**
 * Brings a member into service: starts its host, loads the library, finds the token, opens the lanes, logs
 * in. Ends by `deadline`; on a failure the host is left for the caller to end.
 */
export function* join(group: Group, member: Member, deadline: number): Task<JoinResult> {
  const connection = member.connect();
  connection.renewAfter = (failure) =>
    failure.kind === 'code' && verdictOn(failure.code, group.policy.verdicts) === 'session'
      ? renewLogin(group, member, connection)
      : undefined;
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
    member.manufacturer = token.manufacturerID;
    connection.lanes = lanesOf(config.lanes, token);
    yield* perform(connection, { steps: [step('X_Attach', slot, connection.lanes)], sessionless: true }, deadline);
    connection.window = connection.lanes * 2;
    connection.isAttached = true;
    if (member.staysOut) return { ok: true };
    if (member.ownPin !== undefined) yield* logInApart(group, member, connection, member.ownPin, deadline);
    else if (group.pin !== undefined) yield* logIn(group, member, connection, token, deadline);
    if (member.ownPin !== undefined || group.pin !== undefined)
      yield* learnRecords(group, member, connection, token, deadline);
    member.serial = token.serialNumber;
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
  return replyIn(connection, job, yield* tryJob(connection, job, deadline));
}

function* tryJob(connection: Connection, job: Job, deadline: number): Task<JobReply | Failure> {
  const ticket = connection.submit(job, 'join', deadline);
  if (!ticket.settled) yield { signals: [ticket], until: deadline };
  const { outcome } = ticket;
  if (outcome === undefined) throw new JoinFailure(`${nameOf(job)} did not answer in time`);
  const failure = failureOf(outcome);
  return failure ?? (outcome as Extract<JobOutcome, { readonly kind: 'reply' }>).reply;
}

const nameOf = (job: Job): string => job.steps.at(-1)?.call ?? '';

function replyIn(connection: Connection, job: Job, end: JobReply | Failure): JobReply {
  if (!isFailure(end)) return end;
  switch (end.kind) {
    case 'code':
      throw new JoinFailure(`${end.function} answered ${codeName(end.code)}`, false, end.code);
    case 'lost':
      throw new JoinFailure(`${end.reason} in ${nameOf(job)}`);
    case 'fault':
      throw end.error;
    default:
      throw new JoinFailure(connection.end?.reason ?? `${nameOf(job)} was not begun in time`);
  }
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
    throw new JoinFailure(
      `it is the same token as that of ${twin.name} (serial ${token.serialNumber})`,
      true,
      actionProhibited,
    );
}

/** Reads the group's records: whether the member is one of the group, and under which names its objects go. */
function* learnRecords(
  group: Group,
  member: Member,
  connection: Connection,
  token: TokenInfo,
  deadline: number,
): Task<void> {
  const job = { steps: [findRecords] };
  const end = yield* connection.insist(() => tryJob(connection, job, deadline), deadline);
  const records = recordsIn(foundIn(replyIn(connection, job, end), 0));
  const own = records.group?.record;
  connection.records = records;
  member.isOfGroup = false;
  // What an applicant holds is none of the group's.
  if (records.newer && !member.isApplicant) group.ledger.isNewer = true;
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
  if (records.pins.length > 0) yield* learnFrom(group, connection, deadline);
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
