import { CKF } from '../../spec/codes.js';
import { resultOf, type SecretRef, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { awaitCompletion } from '../base/waiting.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { failureOf } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { learnFromAll } from './pin-record.js';

/** A program that gives the PIN is waited for so long (ms). */
const READ_WITHIN = 30_000;

/**
 * What may be tried, once, after a member has refused a PIN that was right before: the other one of a change that
 * members tell of, or else what the configuration's source says by now. Undefined when there is nothing else, or
 * too few tries are left.
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

/** Whether a token has more than its last try left. */
export function* maySpendTry({ port, policy }: Group, connection: Connection): Task<boolean> {
  const job = { steps: [step('C_GetTokenInfo', connection.slot)], sessionless: true };
  const outcome = yield* connection.run(job, 'token', port.now() + policy.hangAfter);
  if (outcome.kind !== 'reply' || failureOf(outcome) !== undefined) return false;
  const { flags } = resultOf(outcome.reply, 0, 'C_GetTokenInfo');
  return (flags & (CKF.userPinFinalTry | CKF.userPinLocked)) === 0;
}

/** A member has taken a PIN. */
export function acceptPin({ pins }: Group, member: Member, pin: SecretRef): void {
  member.login.accept(pin);
  if (member.login.trialPin !== undefined || pin === pins.current || pins.note !== undefined) return;
  // It was changed by somebody else, and is over.
  pins.current = pin;
}
