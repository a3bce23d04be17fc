import { CKR } from '../../spec/codes.js';
import type { JobReply } from '../../spec/job.js';
import type { Verdict } from '../../spec/verdict.js';
import { TokenError } from '../base/error.js';
import type { AttemptRecord } from '../base/event.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { Login, MemberJob } from '../jobs/member-job.js';
import { noCodes, type Operation } from '../jobs/operation.js';
import { findRecords } from '../records/ledger.js';
import { Attempt } from './attempt.js';

/** What was not to be had just now is asked for again after so long (ms). */
const ASK_AGAIN = 25;
/** Reads the records of the whole group on a member. */
export const readingRecords: MemberJob = {
  function: 'C_FindObjects',
  objects: [],
  isReading: true,
  job: () => ({ steps: [findRecords] }),
};
/** How an errand ended. */
export type MemberJobEnd =
  | { readonly kind: 'done'; readonly reply: JobReply; readonly login: Login }
  /** The token said no, and nothing of it was done. */
  | { readonly kind: 'refused'; readonly code: number; readonly verdict: Verdict; readonly record: AttemptRecord }
  /** The member was lost with it, or is not in step: whether it was done is not known, unless `begun` is false. */
  | { readonly kind: 'gone'; readonly begun: boolean; readonly record: AttemptRecord }
  /** One of the objects that it needs is not there, or is another one there. */
  | { readonly kind: 'lacks'; readonly record: AttemptRecord };

function memberOperation(
  { function: name, mechanism, objects, job, isReading, isSlow }: MemberJob,
  member: Member,
): Operation<undefined> {
  const flags =
    isReading === true
      ? { undo: true }
      : { undo: true, longWrite: true, slow: isSlow === true, exclusive: member.writesExclusively };
  return {
    function: name,
    objects,
    mechanism,
    aspect: 'replicated',
    kind: `${name}:${mechanism ?? ''}`,
    results: noCodes,
    job: (handles, place) => ({ ...job(handles, place), ...flags }),
    read: () => undefined,
  };
}

function holds(login: Login | undefined): boolean {
  return login === undefined || login.connection.epoch === login.epoch;
}

/** Whether something can be asked of a member at all. */
export function isReachable(member: Member): boolean {
  return member.connection !== undefined && member.connection.end === undefined && member.state.name !== 'down';
}

/** Runs an errand: once and no more, but for what a lost login, a void handle or a busy token kept from being done. */
export function* runOnMember(group: Group, member: Member, memberJob: MemberJob, deadline: number): Task<MemberJobEnd> {
  const { port } = group;
  const { connection } = member;
  const operation = memberOperation(memberJob, member);
  const gone = (record: AttemptRecord, begun: boolean): MemberJobEnd => ({
    kind: 'gone',
    begun,
    record: named(record),
  });
  const named = (record: AttemptRecord): AttemptRecord =>
    record.function === '' ? { ...record, function: memberJob.function } : record;
  if (
    connection === undefined ||
    !isReachable(member) ||
    (memberJob.login !== undefined && memberJob.login.connection !== connection)
  ) {
    const record = {
      member: member.name,
      function: memberJob.function,
      code: undefined,
      outcome: 'it is away',
      duration: 0,
    };
    return gone(record, false);
  }
  for (;;) {
    const attempt = new Attempt(member, connection, group);
    attempt.epoch = memberJob.login?.epoch;
    attempt.start(operation, deadline);
    yield* awaitAttempt(group, member, attempt, memberJob, deadline);
    const { end, record } = attempt;
    if (end === undefined) {
      attempt.cancel();
      member.recovery.require();
      return gone(record, true);
    }
    const mayRetry = connection.end === undefined && holds(memberJob.login) && port.now() + ASK_AGAIN < deadline;
    switch (end.kind) {
      case 'ok':
        return { kind: 'done', reply: end.reply, login: { connection, epoch: attempt.executedIn } };
      case 'fault':
        throw end.error;
      case 'lost':
        member.recovery.require();
        member.suspect(connection, record.outcome);
        return gone(record, end.begun);
      case 'absent':
      case 'misaligned':
        return { kind: 'lacks', record: named(record) };
      case 'withdrawn':
      case 'deferred':
        if (!mayRetry) return gone(record, false);
        yield* race([connection.ended], port.now() + ASK_AGAIN);
        break;
      case 'code':
        if (end.verdict === 'busy' && mayRetry) {
          member.backOff();
          yield* race([connection.ended], Math.min(deadline, member.busyUntil));
          break;
        }
        if (end.verdict === 'member' || end.verdict === 'session' || end.verdict === 'credential') {
          member.suspect(connection, `${record.function} answered ${record.outcome}`);
          return gone(record, false);
        }
        return { kind: 'refused', code: end.code, verdict: end.verdict, record: named(record) };
    }
  }
}

/**
 * Waits for an answer for as long as there is hope: a suspect may only be slow, but not for long. A write has as long as
 * writes have where nobody else is left: on some tokens nothing else answers meanwhile.
 */
function* awaitAttempt(
  group: Group,
  member: Member,
  attempt: Attempt,
  { isReading }: MemberJob,
  deadline: number,
): Task<void> {
  const { port, policy, members } = group;
  while (!attempt.completed && isReachable(member) && port.now() < deadline) {
    const { state } = member;
    const isLastHope = !members.some((other) => other !== member && other.isActive);
    const patience = isLastHope && isReading !== true ? policy.writeHangAfter : policy.hangAfter;
    const until = state.name === 'suspect' ? Math.min(deadline, state.since + patience) : deadline;
    if (port.now() >= until) return;
    yield* race([attempt, group.changed], until);
  }
}

/** Runs an errand that nothing may come of but what was asked; TokenError for anything else. */
export function* runOnMemberOrThrow(
  group: Group,
  member: Member,
  memberJob: MemberJob,
  deadline: number,
): Task<JobReply> {
  const end = yield* runOnMember(group, member, memberJob, deadline);
  if (end.kind === 'done') return end.reply;
  const code = end.kind === 'refused' ? end.code : (end.record.code ?? CKR.deviceRemoved);
  throw new TokenError(code, end.record.function, '', [end.record], member.name);
}
