import type { TokenInfo } from '../../spec/calls.js';
import { CKR } from '../../spec/codes.js';
import { codeName } from '../../spec/constants.js';
import { type Job, type JobReply, resultOf, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { TokenSelector } from '../configuration/configuration.js';
import { holdingJob } from '../group/claimed-work.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { type Failure, failureOf, isFailure, type JobOutcome, replyOrFailure } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { JoinFailure } from './join-failure.js';

/** Starts a member's host and loads its library in it. */
export function* startLibrary(group: Group, member: Member, connection: Connection, deadline: number): Task<void> {
  const { module, libraryParameters, env, sandbox } = member.config;
  connection.attachHost(
    group.port.startHost(
      { name: member.name, env, module, sandbox },
      { replied: (reply) => connection.replied(reply), ended: (end) => connection.hostEnded(end) },
    ),
  );
  yield* holdClaims(group, connection, deadline);
  yield* load(connection, module, libraryParameters, deadline);
}

/** Has a new host hold this process's claims: the process's work is not over before its hosts have ended theirs. */
function* holdClaims({ coordinator, claims }: Group, connection: Connection, deadline: number): Task<void> {
  const paths = [coordinator.writerPath, ...[...claims].map(({ path }) => path)];
  yield* perform(connection, holdingJob(paths), deadline);
}

/** Runs a job of the join; throws JoinFailure if it fails. */
export function* perform(connection: Connection, job: Job, deadline: number): Task<JobReply> {
  return replyIn(connection, job, yield* tryJob(connection, job, deadline));
}

/** Runs a job of the join and returns its outcome; undefined if the deadline passes. */
export function* outcomeOf(connection: Connection, job: Job, deadline: number): Task<JobOutcome | undefined> {
  const ticket = connection.submit(job, 'join', deadline);
  yield* race([ticket], deadline);
  return ticket.outcome;
}

/** Runs a job of the join and returns its reply or failure; throws JoinFailure if the deadline passes. */
export function* tryJob(connection: Connection, job: Job, deadline: number): Task<JobReply | Failure> {
  const outcome = yield* outcomeOf(connection, job, deadline);
  if (outcome === undefined) throw new JoinFailure(`${nameOf(job)} did not answer in time`);
  return replyOrFailure(outcome);
}

const nameOf = (job: Job): string => job.steps.at(-1)?.call ?? '';

/** Returns the reply; throws JoinFailure for a failure. */
export function replyIn(connection: Connection, job: Job, end: JobReply | Failure): JobReply {
  if (!isFailure(end)) return end;
  switch (end.kind) {
    case 'code':
      throw new JoinFailure(`${end.function} answered ${codeName(end.code)}`, false, end.code);
    case 'lost':
      throw new JoinFailure(`${end.reason} in ${nameOf(job)}`);
    case 'fault':
      throw end.error;
    default:
      throw new JoinFailure(connection.end?.reason ?? `${nameOf(job)} did not begin in time`);
  }
}

function* load(connection: Connection, path: string, parameters: string, deadline: number): Task<void> {
  const job: Job = { steps: [step('X_Load', path, parameters)], sessionless: true };
  const outcome = yield* outcomeOf(connection, job, deadline);
  if (outcome?.kind === 'reply') {
    const [result] = outcome.reply.results;
    if (result?.code === 0 || result?.code === CKR.cryptokiAlreadyInitialized) return;
    const problem =
      typeof result?.value === 'string' && result.value !== ''
        ? result.value
        : `C_Initialize answered ${codeName(result?.code ?? 5)}`;
    throw new JoinFailure(`${path} cannot be loaded: ${problem}`);
  }
  throw new JoinFailure(
    outcome?.kind === 'lost'
      ? `${outcome.reason} while loading ${path}`
      : (connection.end?.reason ??
          `${path} did not load in time: raise policy.hangAfter, of which loading may take fifteen times as long`),
  );
}

/** Token that a library shows, and its slot. */
export interface FoundToken {
  /** CK_SLOT_ID. */
  readonly slot: number;
  /** Index among the slots that have a token, from 0. */
  readonly index: number;
  readonly token: TokenInfo;
}

/** Reads all tokens that a library shows, in the order of its slots; leaves out tokens that refuse C_GetTokenInfo. */
export function* tokensOf(connection: Connection, deadline: number): Task<readonly FoundToken[]> {
  const slots = resultOf(
    yield* perform(connection, { steps: [step('C_GetSlotList', true)], sessionless: true }, deadline),
    0,
    'C_GetSlotList',
  );
  const found: FoundToken[] = [];
  for (const [index, slot] of slots.entries()) {
    const job: Job = { steps: [step('C_GetTokenInfo', slot)], sessionless: true };
    const outcome = yield* outcomeOf(connection, job, deadline);
    // A slot that refuses C_GetTokenInfo does not hide the others.
    if (outcome?.kind === 'reply' && failureOf(outcome) === undefined) {
      found.push({ slot, index, token: resultOf(outcome.reply, 0, 'C_GetTokenInfo') });
    } else if (outcome?.kind !== 'reply') {
      throw new JoinFailure(connection.end?.reason ?? 'C_GetTokenInfo did not answer in time');
    }
  }
  return found;
}

/** Returns true if the selector means this token. */
export function isMeant({ serial, label, slot }: TokenSelector, { token, index }: FoundToken): boolean {
  if (serial !== undefined) return token.serialNumber === serial;
  return label === undefined ? index === slot : token.label === label;
}

/** Finds the token that the selector means; throws JoinFailure if none or several match. */
export function* findToken(connection: Connection, selector: TokenSelector, deadline: number): Task<FoundToken> {
  const found = yield* tokensOf(connection, deadline);
  const matching = found.filter((each) => isMeant(selector, each));
  const wanted = Object.entries(selector)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key} ${value}`)
    .join('');
  const [first] = matching;
  if (first === undefined)
    throw new JoinFailure(`no token with ${wanted} among the ${found.length} that the module shows`);
  if (matching.length > 1) throw new JoinFailure(`${matching.length} tokens have ${wanted}: select by serial`, true);
  return first;
}
