import type { TokenInfo } from '../../spec/calls.js';
import { CKR } from '../../spec/codes.js';
import { codeName } from '../../spec/constants.js';
import { type Job, type JobReply, resultOf, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { TokenSelector } from '../configuration/configuration.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { type Failure, failureOf, isFailure, type JobOutcome } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { JoinFailure } from './join-failure.js';

/** Starts a member's host and loads its library there. */
export function* startLibrary(group: Group, member: Member, connection: Connection, deadline: number): Task<void> {
  const { module, libraryParameters, env } = member.config;
  connection.attachHost(
    group.port.startHost(
      { name: member.name, env },
      { replied: (reply) => connection.replied(reply), ended: (end) => connection.hostEnded(end) },
    ),
  );
  yield* load(connection, module, libraryParameters, deadline);
}

/** Runs a job of the join; whatever is not success ends the join with a reason. */
export function* perform(connection: Connection, job: Job, deadline: number): Task<JobReply> {
  return replyIn(connection, job, yield* tryJob(connection, job, deadline));
}

export function* tryJob(connection: Connection, job: Job, deadline: number): Task<JobReply | Failure> {
  const ticket = connection.submit(job, 'join', deadline);
  yield* race([ticket], deadline);
  const { outcome } = ticket;
  if (outcome === undefined) throw new JoinFailure(`${nameOf(job)} did not answer in time`);
  const failure = failureOf(outcome);
  return failure ?? (outcome as Extract<JobOutcome, { readonly kind: 'reply' }>).reply;
}

const nameOf = (job: Job): string => job.steps.at(-1)?.call ?? '';

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
      throw new JoinFailure(connection.end?.reason ?? `${nameOf(job)} was not begun in time`);
  }
}

function* load(connection: Connection, path: string, parameters: string, deadline: number): Task<void> {
  const ticket = connection.submit({ steps: [step('X_Load', path, parameters)], sessionless: true }, 'join', deadline);
  yield* race([ticket], deadline);
  const { outcome } = ticket;
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
      : (connection.end?.reason ?? `${path} did not load in time`),
  );
}

/** A token that a library shows, and the slot that it is in. */
export interface FoundToken {
  readonly slot: number;
  /** Which of the slots that have a token it is, from 0. */
  readonly index: number;
  readonly token: TokenInfo;
}

/** All tokens that a library shows, in the order of its slots. */
export function* tokensOf(connection: Connection, deadline: number): Task<readonly FoundToken[]> {
  const slots = resultOf(
    yield* perform(connection, { steps: [step('C_GetSlotList', true)], sessionless: true }, deadline),
    0,
    'C_GetSlotList',
  );
  const found: FoundToken[] = [];
  for (const [index, slot] of slots.entries()) {
    const job: Job = { steps: [step('C_GetTokenInfo', slot)], sessionless: true };
    const ticket = connection.submit(job, 'join', deadline);
    yield* race([ticket], deadline);
    // One slot that cannot tell about its token is no reason to miss the others.
    if (ticket.outcome?.kind === 'reply' && failureOf(ticket.outcome) === undefined) {
      found.push({ slot, index, token: resultOf(ticket.outcome.reply, 0, 'C_GetTokenInfo') });
    } else if (ticket.outcome?.kind !== 'reply') {
      throw new JoinFailure(connection.end?.reason ?? 'C_GetTokenInfo did not answer in time');
    }
  }
  return found;
}

export function isMeant({ serial, label, slot }: TokenSelector, { token, index }: FoundToken): boolean {
  if (serial !== undefined) return token.serialNumber === serial;
  return label === undefined ? index === slot : token.label === label;
}

/** The one token that is meant. */
export function* findToken(connection: Connection, selector: TokenSelector, deadline: number): Task<FoundToken> {
  const found = yield* tokensOf(connection, deadline);
  const matching = found.filter((each) => isMeant(selector, each));
  const wanted = Object.entries(selector)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key} ${value}`)
    .join('');
  const [first] = matching;
  if (first === undefined) throw new JoinFailure(`no token with ${wanted} among the ${found.length} of the module`);
  if (matching.length > 1) throw new JoinFailure(`${matching.length} tokens have ${wanted}: select by serial`, true);
  return first;
}
