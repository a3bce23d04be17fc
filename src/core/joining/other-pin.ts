import type { TokenInfo } from '../../spec/calls.js';
import { CKF } from '../../spec/codes.js';
import { type Job, resultOf, type SecretRef, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { awaitCompletion } from '../base/waiting.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { isFailure, replyOrFailure } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { learnFromAll } from './pin-record.js';

/** Longest wait for the source that the PIN is read from, which may be a program (ms). */
const READ_WITHIN = 30_000;
/** Maximum number of logins without an answer on a member while the PIN is not proven. */
const MOST_UNKNOWN_LOGINS = 3;

/**
 * Returns the PIN that may be tried once after a member has refused a PIN that was right before: the other PIN of a
 * change, or the PIN read again from its source. Undefined if there is no other PIN, or the token has one try left.
 */
export function* otherPinThan(
  group: Group,
  member: Member,
  connection: Connection,
  refused: SecretRef,
): Task<SecretRef | undefined> {
  const { pins, port, policy } = group;
  member.login.addRefused(refused);
  if (member.login.trialPin !== undefined) return undefined;
  if (pins.otherFor(member) === undefined) yield* learnFromAll(group, port.now() + policy.hangAfter);
  const other = pins.otherFor(member) ?? (yield* readAgain(group, member));
  if (other === undefined || !(yield* maySpendTry(group, connection))) return undefined;
  return other;
}

function* readAgain({ pins, port }: Group, { login: { refusedPins } }: Member): Task<SecretRef | undefined> {
  const reading = port.secrets.readAgain();
  const until = port.now() + READ_WITHIN;
  yield* awaitCompletion(port, reading, until);
  if (reading.secret === undefined) return undefined;
  const secret = pins.intern(reading.secret);
  for (const each of refusedPins) {
    if (each !== secret && !port.secrets.areEqual(each, secret)) continue;
    pins.wipeUnless([secret]);
    return undefined;
  }
  return secret;
}

/** Returns true if the token's flags say that more than the last try is left; false if the token could not be asked. */
export function* maySpendTry({ port, policy }: Group, connection: Connection): Task<boolean> {
  const job: Job = { steps: [step('C_GetTokenInfo', connection.slot)], sessionless: true };
  const reply = replyOrFailure(yield* connection.run(job, 'token', port.now() + policy.hangAfter));
  if (isFailure(reply)) return false;
  const { flags } = resultOf(reply, 0, 'C_GetTokenInfo');
  return (flags & (CKF.userPinFinalTry | CKF.userPinLocked)) === 0;
}

/** Notes that a member has taken a PIN. */
export function acceptPin({ pins }: Group, member: Member, pin: SecretRef): void {
  member.login.accept(pin);
  if (member.login.trialPin !== undefined || pin === pins.current || pins.note !== undefined) return;
  // If no change is known, another PIN is the result of a change by others that is over.
  pins.current = pin;
}

/** Returns true if another try may lock the token: logins without an answer may have been refusals. */
export function mayHaveBeenRefused(member: Member, token: TokenInfo): boolean {
  if (member.login.unknownLogins === 0) return false;
  return (
    member.login.unknownLogins >= MOST_UNKNOWN_LOGINS ||
    (token.flags & (CKF.userPinCountLow | CKF.userPinFinalTry)) !== 0
  );
}
