import { CKR } from '../../spec/codes.js';
import type { Job, JobReply } from '../../spec/job.js';
import type { Verdict } from '../../spec/verdict.js';
import { TokenError } from '../base/error.js';
import type { AttemptRecord } from '../base/event.js';
import { FOREVER, type Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { Login, MemberJob } from '../jobs/member-job.js';
import { noCodes, type Operation } from '../jobs/operation.js';
import { findRecords } from '../records/ledger.js';
import { Attempt } from './attempt.js';
import { nameRecord } from './attempt-end.js';

/** Interval between tries of a job that did not run (ms). */
const RETRY_AFTER = 25;
/** Time after which a token that has no memory for a write counts as full (ms). */
const FULL_AFTER = 500;

/** Member job that reads the group's records. */
export const readingRecords: MemberJob = {
  function: 'C_FindObjects',
  objects: [],
  isReading: true,
  job: () => ({ steps: findRecords }),
};

/** End of a member job. */
export type MemberJobEnd =
  | { readonly kind: 'done'; readonly reply: JobReply; readonly login: Login }
  /** The token refused; nothing was done. */
  | { readonly kind: 'refused'; readonly code: number; readonly verdict: Verdict; readonly record: AttemptRecord }
  /** The member was lost. If `begun` is true, the outcome is unknown; if false, nothing was done. */
  | { readonly kind: 'gone'; readonly begun: boolean; readonly record: AttemptRecord }
  /** The member lacks an object of the job, or has another key in its place. */
  | { readonly kind: 'lacks'; readonly record: AttemptRecord };

/** Makes the operation of a member job. */
function memberOperation(
  { function: name, mechanism, objects, job, isReading, isSlow }: MemberJob,
  member: Member,
): Operation<undefined> {
  const flags: Omit<Job, 'steps'> =
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
    job: (handles, location) => ({ ...job(handles, location), ...flags }),
    read: () => undefined,
  };
}

/** Returns true if a login still lasts. */
function holds(login: Login | undefined): boolean {
  return login === undefined || login.connection.epoch === login.epoch;
}

/** Returns true if a member has a host with a login: on a fresh host without one, everything seems to be absent. */
function hasHost({ connection, state }: Member): boolean {
  return connection?.hasLogin === true && connection.end === undefined && state.name !== 'down';
}

/** Returns true if a member has a running host, which is not about to be ended. */
export function isReachable(member: Member): boolean {
  return hasHost(member) && member.connection?.isGivenUp !== true;
}

/**
 * Runs a member job, once. The job is repeated only if it did not run: the login was lost, a handle was void, or the
 * token was busy.
 */
export function* runOnMember(group: Group, member: Member, memberJob: MemberJob, deadline: number): Task<MemberJobEnd> {
  const { connection } = member;
  if (
    connection === undefined ||
    !isReachable(member) ||
    (memberJob.login !== undefined && memberJob.login.connection !== connection)
  ) {
    const outcome = 'the member is not reachable';
    const record = { member: member.name, function: memberJob.function, code: undefined, outcome, duration: 0 };
    return { kind: 'gone', begun: false, record };
  }
  const operation = memberOperation(memberJob, member);
  const fullAt = memberJob.isReading === true ? FOREVER : group.port.now() + FULL_AFTER;
  for (;;) {
    const attempt = new Attempt(member, connection, group);
    attempt.epoch = memberJob.login?.epoch;
    attempt.start(operation, deadline);
    let isAwaited = false;
    try {
      yield* awaitAttempt(group, member, attempt, memberJob, deadline);
      isAwaited = true;
    } finally {
      // A job that is still queued must not be sent after its task has been ended.
      if (!isAwaited) attempt.cancel();
    }
    const end = takeAttempt(group, attempt, memberJob, { deadline, fullAt });
    if (end.kind !== 'retry') return end;
    yield* race([connection.ended], end.until);
  }
}

/** Takes in the attempt of a member job: returns the end of the job, or the time to try again at (ms). */
function takeAttempt(
  { port }: Group,
  attempt: Attempt,
  memberJob: MemberJob,
  { deadline, fullAt }: { readonly deadline: number; readonly fullAt: number },
): MemberJobEnd | { readonly kind: 'retry'; readonly until: number } {
  const { member, connection, end } = attempt;
  const record = nameRecord(attempt.record, memberJob.function);
  if (end === undefined) {
    attempt.cancel();
    member.recovery.require();
    return { kind: 'gone', begun: true, record };
  }
  const mayRetry = connection.end === undefined && holds(memberJob.login) && port.now() + RETRY_AFTER < deadline;
  switch (end.kind) {
    case 'ok':
      return { kind: 'done', reply: end.reply, login: { connection, epoch: attempt.executedIn } };
    case 'fault':
      throw end.error;
    case 'lost':
      member.recovery.require();
      member.suspect(connection, record.outcome);
      return { kind: 'gone', begun: end.begun, record };
    case 'absent':
    case 'misaligned':
      return { kind: 'lacks', record };
    case 'withdrawn':
    case 'deferred':
      return mayRetry ? { kind: 'retry', until: port.now() + RETRY_AFTER } : { kind: 'gone', begun: false, record };
    case 'code':
      if (end.verdict === 'busy' && mayRetry && !(end.code === CKR.deviceMemory && port.now() >= fullAt)) {
        member.backOff();
        return { kind: 'retry', until: Math.min(deadline, member.busyUntil) };
      }
      if (end.verdict === 'member' || end.verdict === 'session' || end.verdict === 'credential') {
        member.suspect(connection, `${record.function} answered ${record.outcome}`);
        return { kind: 'gone', begun: false, record };
      }
      return { kind: 'refused', code: end.code, verdict: end.verdict, record };
  }
}

/**
 * Waits until an attempt has ended, its member is gone or the deadline has passed. A suspect has `hangAfter` from the
 * moment of suspicion. If no other member is active, a write on a suspect has `writeHangAfter`: some tokens answer
 * nothing else during a write.
 */
function* awaitAttempt(
  group: Group,
  member: Member,
  attempt: Attempt,
  { isReading }: MemberJob,
  deadline: number,
): Task<void> {
  const { port, policy, members } = group;
  // A write that is within its limit ends before its host does.
  while (!attempt.completed && hasHost(member) && port.now() < deadline) {
    const { state } = member;
    const isLastHope = !members.some((other) => other !== member && other.isActive);
    const patience = isLastHope && isReading !== true ? policy.writeHangAfter : policy.hangAfter;
    const until = state.name === 'suspect' ? Math.min(deadline, state.since + patience) : deadline;
    if (port.now() >= until) return;
    yield* race([attempt, group.changed], until);
  }
}

/** Runs a member job; throws a TokenError unless the job is done. */
export function* runOnMemberOrThrow(
  group: Group,
  member: Member,
  memberJob: MemberJob,
  deadline: number,
): Task<JobReply> {
  return (yield* runToEnd(group, member, memberJob, deadline)).reply;
}

/** Does the same; returns the reply with the login that its handles belong to. */
export function* runToEnd(
  group: Group,
  member: Member,
  memberJob: MemberJob,
  deadline: number,
): Task<Extract<MemberJobEnd, { readonly kind: 'done' }>> {
  const end = yield* runOnMember(group, member, memberJob, deadline);
  if (end.kind === 'done') return end;
  const code = end.kind === 'refused' ? end.code : (end.record.code ?? CKR.deviceRemoved);
  throw new TokenError(code, end.record.function, '', [end.record], member.name);
}
