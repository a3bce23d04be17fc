import { CKR } from '../../spec/codes.js';
import { codeName } from '../../spec/constants.js';
import { type Job, type SecretRef, step } from '../../spec/job.js';
import { verdictOn } from '../../spec/verdict.js';
import { rejoinAfter } from '../base/backoff.js';
import type { Task } from '../base/task.js';
import { awaitCompletion, sleepUntil } from '../base/waiting.js';
import { isReachable } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import { failureOf } from '../group/job-outcome.js';
import { Member } from '../group/member.js';
import { join } from '../joining/join.js';
import { renewLogin } from '../joining/login-renewal.js';

/** A trial takes at most so many times `hangAfter`. */
const TRIAL_MULTIPLE = 5;

type PinTrialResult = 'right' | 'refused' | 'unknown';

/** Tries a PIN once on a host of its own, which sees the token as it is now. */
function* tryPin(group: Group, model: Member, pin: SecretRef): Task<PinTrialResult> {
  const { port, policy } = group;
  const deadline = port.now() + policy.hangAfter * TRIAL_MULTIPLE;
  const member = new Member({ ...model.config, lanes: 1 }, port, group.timing, () => {});
  member.serial = model.serial;
  member.login.tryOnly(pin);
  for (let failures = 1; ; failures += 1) {
    const joined = yield* join(group, member, deadline);
    if (member.connection !== undefined) yield* member.connection.giveUp(policy);
    if (member.login.pin === pin) return 'right';
    if (member.login.refusal !== undefined) return member.login.refusal === CKR.pinLocked ? 'unknown' : 'refused';
    // A login without an answer may have been a try.
    if (joined.ok || joined.lasting || member.login.unknownLogins > 0) return 'unknown';
    const retryAt = port.now() + rejoinAfter(failures, port.random());
    if (retryAt >= deadline) return 'unknown';
    yield* sleepUntil(retryAt);
  }
}

/** What has become of a member's PIN: it is the new one, still the old one, or nobody knows which of them. */
export interface MemberPinChange {
  readonly end: 'turned' | 'unturned' | 'unknown';
  readonly code: number;
  readonly reason: string;
}

/**
 * Changes a member's PIN, and looks on another host what it is then: C_SetPIN is never repeated (Rule 6), and of
 * the two PINs each is tried once at most.
 */
export function* changePinOn(group: Group, member: Member, from: SecretRef, to: SecretRef): Task<MemberPinChange> {
  const { pins } = group;
  member.login.beginPinChange();
  try {
    const change = yield* setPin(group, member, from, to);
    if (change.end !== 'unturned') member.login.notePin(change.end === 'turned' ? to : undefined);
    return change;
  } finally {
    member.login.endPinChange();
    pins.changed.fire();
  }
}

function* setPin(group: Group, member: Member, from: SecretRef, to: SecretRef): Task<MemberPinChange> {
  const { policy } = group;
  const { name } = member;
  for (let isRenewed = false; ; isRenewed = true) {
    const { connection } = member;
    if (connection === undefined || !isReachable(member))
      return { end: 'unturned', code: CKR.deviceRemoved, reason: `${name} is away` };
    const secret = group.port.secrets.joined(from, to);
    const job: Job = {
      steps: [step('C_SetPIN', from.length, to.length)],
      sessionless: true,
      onLoginSession: true,
      longWrite: true,
      exclusive: true,
      secret,
    };
    const deadline = group.port.now() + policy.hangAfter + policy.writeHangAfter;
    try {
      const outcome = yield* connection.run(job, 'C_SetPIN', deadline);
      const failure = failureOf(outcome);
      if (failure === undefined) return yield* lookWhich(group, member, from, to, 0, '');
      if (failure.kind === 'fault') throw failure.error;
      if (failure.kind === 'lost' && failure.begun)
        return yield* lookWhich(group, member, from, to, CKR.deviceRemoved, `${failure.reason} in C_SetPIN on ${name}`);
      if (failure.kind !== 'code')
        return { end: 'unturned', code: CKR.deviceRemoved, reason: `${name} was lost before its PIN was changed` };
      const verdict = verdictOn(failure.code, policy.verdicts);
      const reason = `C_SetPIN answered ${codeName(failure.code)} on ${name}`;
      if (verdict === 'credential' || verdict === 'caller') return { end: 'unturned', code: failure.code, reason };
      if (verdict !== 'session') return yield* lookWhich(group, member, from, to, failure.code, reason);
      // It was not done for want of a login: once more with a new one.
      if (isRenewed) return { end: 'unturned', code: failure.code, reason };
    } finally {
      group.port.secrets.wipe(secret);
    }
    const renewal = renewLogin(group, member, connection);
    yield* awaitCompletion(group.port, renewal);
  }
}

/** Which of the two a token has; the likelier one is tried first. A `code` says that the change is not known to be done. */
function* lookWhich(
  group: Group,
  member: Member,
  from: SecretRef,
  to: SecretRef,
  code: number,
  reason: string,
): Task<MemberPinChange> {
  const order = code === 0 || code === CKR.deviceRemoved ? [to, from] : [from, to];
  for (const pin of order) {
    const trial = yield* tryPin(group, member, pin);
    if (trial === 'right')
      return { end: pin === to ? 'turned' : 'unturned', code: code === 0 ? CKR.deviceError : code, reason };
    if (trial === 'unknown') break;
  }
  return {
    end: 'unknown',
    code: code === 0 ? CKR.deviceRemoved : code,
    reason: `${reason === '' ? '' : `${reason}, and `}a login on ${member.name} could not show which PIN it has`,
  };
}
