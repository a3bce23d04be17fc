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

/** Multiple of `hangAfter` that a trial may take at most. */
const TRIAL_MULTIPLE = 5;

/** Result of a trial. `unknown`: the login neither succeeded nor was refused. */
type PinTrialResult = 'right' | 'refused' | 'unknown';

/** Tries a PIN once on a fresh host, which sees the token as it is now. */
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
    // Stop after a login without an answer: the token may have counted it as a try.
    if (joined.ok || joined.lasting || member.login.unknownLogins > 0) return 'unknown';
    const retryAt = port.now() + rejoinAfter(failures, port.random());
    if (retryAt >= deadline) return 'unknown';
    yield* sleepUntil(retryAt);
  }
}

/** Result of a PIN change on one member: the member has the new PIN, the old PIN, or it is unknown which. */
interface MemberPinChange {
  readonly end: 'changed' | 'unchanged' | 'unknown';
  readonly code: number;
  readonly reason: string;
}

/**
 * Changes a member's PIN, then finds out on a fresh host which PIN the token has. C_SetPIN is never repeated (Rule 6),
 * and each of the two PINs is tried at most once.
 */
export function* changePinOn(group: Group, member: Member, from: SecretRef, to: SecretRef): Task<MemberPinChange> {
  const { pins } = group;
  member.login.beginPinChange();
  try {
    const change = yield* setPin(group, member, from, to);
    if (change.end !== 'unchanged') group.coordinator.forgetRefusals(member.serial ?? '');
    if (change.end !== 'unchanged') member.login.notePin(change.end === 'changed' ? to : undefined);
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
      return { end: 'unchanged', code: CKR.deviceRemoved, reason: `${name} cannot be reached` };
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
      if (failure === undefined) return yield* findPin(group, member, from, to, 0, '');
      if (failure.kind === 'fault') throw failure.error;
      if (failure.kind === 'lost' && failure.begun)
        return yield* findPin(group, member, from, to, CKR.deviceRemoved, `${failure.reason} in C_SetPIN on ${name}`);
      if (failure.kind !== 'code')
        return { end: 'unchanged', code: CKR.deviceRemoved, reason: `${name} was lost before its PIN was changed` };
      const verdict = verdictOn(failure.code, policy.verdicts);
      const reason = `C_SetPIN answered ${codeName(failure.code)} on ${name}`;
      if (verdict === 'credential' || verdict === 'caller') return { end: 'unchanged', code: failure.code, reason };
      if (verdict !== 'session') return yield* findPin(group, member, from, to, failure.code, reason);
      // The token did nothing because the login was lost: renew the login and try once more.
      if (isRenewed) return { end: 'unchanged', code: failure.code, reason };
    } finally {
      group.port.secrets.wipe(secret);
    }
    const renewal = renewLogin(group, member, connection);
    yield* awaitCompletion(group.port, renewal);
  }
}

/**
 * Finds out which of the two PINs a token has; tries the likelier PIN first. `code`: result of a C_SetPIN that may not
 * have changed the PIN; 0 if C_SetPIN succeeded.
 */
function* findPin(
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
      return { end: pin === to ? 'changed' : 'unchanged', code: code === 0 ? CKR.deviceError : code, reason };
    if (trial === 'unknown') break;
  }
  return {
    end: 'unknown',
    code: code === 0 ? CKR.deviceRemoved : code,
    reason: `${reason === '' ? '' : `${reason}, and `}a login on ${member.name} could not show which PIN the token has`,
  };
}
