import type { TokenInfo } from '../../spec/calls.js';
import { CKF, CKR } from '../../spec/codes.js';
import { codeName } from '../../spec/constants.js';
import type { SecretRef } from '../../spec/job.js';
import { verdictOn } from '../../spec/verdict.js';
import type { Signal, Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { failureOf, type JobOutcome } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import type { PinNote } from '../records/record.js';
import { JoinFailure } from './join-failure.js';
import { loginJob } from './login-renewal.js';
import { acceptPin, maySpendTry, otherPinThan } from './other-pin.js';
import { readNotes } from './pin-record.js';

/** So many logins without an answer are made on a member while the PIN is not proven. */
const MOST_UNKNOWN_LOGINS = 3;
/** Members whose notes are asked for are waited for until they can be asked; looked again so often (ms). */
const LOOK_AGAIN = 10;

/**
 * The login of a join. The PIN is tried once, on one member at a time until it has been proven (Rule 6). Only a
 * refusal by a token whose PIN was just being changed says nothing of the PIN: such a member waits until another one
 * has told both PINs of the change, and is tried once with the other.
 */
export function* logIn(
  group: Group,
  member: Member,
  connection: Connection,
  token: TokenInfo,
  deadline: number,
): Task<void> {
  const login = new PinLogin(group, member, connection, token, deadline);
  yield* login.run();
}

/** With a PIN that is this token's alone: it is tried once, whatever comes of it, and says nothing of the group's. */
export function* logInOnSpareHost(
  group: Group,
  member: Member,
  connection: Connection,
  pin: SecretRef,
  deadline: number,
): Task<void> {
  const ticket = connection.submit(loginJob(member, pin), 'join', deadline);
  yield* race([ticket], deadline);
  const { outcome, reason, code } = judgeLogin(group, member, ticket.outcome);
  if (outcome === 'right') return;
  // A token that has no PIN has looked at none.
  throw new JoinFailure(reason, code !== CKR.userPinNotInitialized, code);
}

class PinLogin {
  constructor(
    private readonly group: Group,
    private readonly member: Member,
    private readonly connection: Connection,
    private readonly token: TokenInfo,
    private readonly deadline: number,
  ) {}

  *run(): Task<void> {
    const { group, member, token } = this;
    if (member.login.refusal !== undefined)
      throw new JoinFailure(`${codeName(member.login.refusal)} at the login before`, true, member.login.refusal);
    if ((token.flags & CKF.userPinLocked) !== 0)
      throw new JoinFailure("the token's user PIN is locked", true, CKR.pinLocked);
    while (member.login.isPinInDoubt) yield* this.#wait([group.pins.changed], 'its PIN is just being changed');
    yield* this.#awaitProof();
    const pin = group.pins.firstFor(member);
    if (pin === undefined) return;
    let refused: number | undefined;
    if (!member.login.refusedPins.has(pin)) {
      yield* this.#enter(pin);
      refused = yield* this.#try(pin);
      if (refused === undefined) return;
    }
    const other = yield* this.#otherThan(pin, refused);
    if (other === undefined) throw this.#refusedWith(refused ?? CKR.pinIncorrect);
    yield* this.#enter(other);
    const code = yield* this.#try(other);
    if (code === undefined) return;
    group.logins.leave('wrong', code, member.name);
    throw this.#refusedWith(code);
  }

  *#otherThan(pin: SecretRef, refused: number | undefined): Task<SecretRef | undefined> {
    const { group, member, connection } = this;
    if (group.logins.isProven) {
      const other = yield* otherPinThan(group, member, connection, pin);
      if (other !== undefined || member.login.trialPin !== undefined) return other;
      // The one that has proven the PIN may just be reading the other.
      if (!(yield* this.#isBeingChanged())) return undefined;
    }
    return yield* this.#awaitOther(pin, refused);
  }

  *#wait(signals: readonly Signal[], reason: string, until: number = this.deadline): Task<void> {
    const { connection, deadline, group } = this;
    if (group.port.now() >= deadline) throw new JoinFailure(reason);
    yield* race([...signals, connection.ended], Math.min(until, deadline));
    if (connection.end !== undefined) throw new JoinFailure(connection.end.reason);
  }

  /** A token with few tries left is not the one to find out whether the PIN is right, while another one may. */
  *#awaitProof(): Task<void> {
    const { group, member, token } = this;
    const { logins, port, policy } = group;
    if ((token.flags & (CKF.userPinCountLow | CKF.userPinFinalTry)) === 0) return;
    const until = port.now() + policy.hangAfter;
    const isOpen = (other: Member): boolean =>
      other !== member &&
      other.state.name === 'joining' &&
      !other.login.awaitsProof &&
      other.login.refusal === undefined;
    member.login.setAwaitsProof(true);
    try {
      while (!logins.isProven && !logins.isRefused && port.now() < until && group.members.some(isOpen))
        yield* this.#wait([logins.changed, group.changed], 'another member is still logging in', until);
    } finally {
      member.login.setAwaitsProof(false);
    }
  }

  /** Waits for the member's turn to try. */
  *#enter(pin: SecretRef): Task<void> {
    const { group, member, token } = this;
    const { logins } = group;
    while (!logins.enter()) {
      if (logins.isRefused) throw this.#stopped();
      yield* this.#wait([logins.changed], 'another member is still logging in');
    }
    if (this.#isTakenBack(pin)) {
      // It was refused elsewhere, and another one was given since.
      if (!logins.isProven) logins.leave('unknown', 0, member.name);
      throw new JoinFailure('its PIN is another by now');
    }
    if (logins.isProven || !mayHaveBeenRefused(member, token)) return;
    logins.leave('unknown', 0, member.name);
    throw new JoinFailure('logins ended without an answer, and the PIN is not known to be right', true);
  }

  #isTakenBack(pin: SecretRef): boolean {
    return this.group.pins.takenBack.has(pin);
  }

  #stopped(): JoinFailure {
    const { code, member: where } = this.group.logins.refusal ?? { code: 0, member: '' };
    return new JoinFailure(`no login is tried after ${codeName(code)} on ${where}`, true);
  }

  #refusedWith(code: number): JoinFailure {
    this.member.login.refuse(code);
    return new JoinFailure(`C_Login answered ${codeName(code)}`, true, code);
  }

  /** One try. Gives the code of a refusal, about which the others have not been told yet. */
  *#try(pin: SecretRef): Task<number | undefined> {
    const { group, member, connection, deadline } = this;
    const { logins, port, policy } = group;
    const ticket = connection.submit(loginJob(member, pin), 'join', deadline);
    // The others wait for the first login; one that hangs must not hold them up for long.
    const patience = Math.min(deadline, port.now() + policy.hangAfter);
    yield* race([ticket], patience);
    const isLate = !ticket.completed;
    if (isLate) {
      logins.leave('unknown', 0, member.name);
      yield* race([ticket], deadline);
    }
    const { outcome, reason, code } = judgeLogin(group, member, ticket.outcome);
    // Taken back meanwhile: what the token says of it is nobody's business any more.
    if (this.#isTakenBack(pin)) {
      if (!isLate) logins.leave('unknown', 0, member.name);
      throw new JoinFailure('its PIN is another by now');
    }
    if (outcome === 'right') {
      acceptPin(group, member, pin);
      logins.leave('right', 0, member.name);
      return undefined;
    }
    if (outcome === 'wrong') return code;
    // One that was late has given its turn back: only what says something about the PIN is told then.
    if (!isLate) logins.leave('unknown', 0, member.name);
    if (code === CKR.pinLocked) throw this.#refusedWith(code);
    throw new JoinFailure(reason);
  }

  /**
   * After a refusal of a PIN that nobody has proven: the other one, where this token's PIN was just being changed.
   * `refused` is undefined where that was known from a try before.
   */
  *#awaitOther(pin: SecretRef, refused: number | undefined): Task<SecretRef | undefined> {
    const { group, member } = this;
    const { logins, pins } = group;
    const isInDoubt = refused === undefined || (yield* this.#isBeingChanged());
    member.login.addRefused(pin);
    if (!isInDoubt || !this.#hasHope(pin)) {
      logins.leave('wrong', refused ?? CKR.pinIncorrect, member.name);
      return undefined;
    }
    if (refused !== undefined) logins.leave('unknown', refused, member.name);
    for (;;) {
      const other = pins.otherFor(member);
      if (other !== undefined) return (yield* maySpendTry(group, this.connection)) ? other : undefined;
      if (logins.isRefused) throw this.#stopped();
      if (!this.#hasHope(pin)) return undefined;
      yield* this.#wait(
        [pins.changed, logins.changed, group.changed],
        'its PIN was refused, a change of the PIN was interrupted, and no other member can tell the other one',
      );
    }
  }

  /** Whether another member may still take the PIN that this one has refused. */
  #hasHope(pin: SecretRef): boolean {
    return this.group.members.some(
      (other) =>
        other.name !== this.member.name &&
        other.login.refusal === undefined &&
        !other.login.refusedPins.has(pin) &&
        other.state.name !== 'drained' &&
        !(other.state.name === 'down' && other.state.retryAt === Number.POSITIVE_INFINITY),
    );
  }

  /** Whether notes, on this token or on another one, say that its PIN may be another one than that of the others. */
  *#isBeingChanged(): Task<boolean> {
    const { group, member, connection, token } = this;
    const { port, policy } = group;
    const until = Math.min(this.deadline, port.now() + policy.hangAfter);
    const concernsIt = ({ state, participants, missed }: PinNote): boolean =>
      missed.includes(token.serialNumber) || (state === 'changing' && participants.includes(token.serialNumber));
    if ((yield* readNotes(connection, until))?.some(concernsIt) === true) return true;
    for (const other of group.members) {
      if (other.name === member.name) continue;
      while (other.state.name === 'joining' && other.connection?.isAttached !== true && port.now() < until)
        yield* race([group.changed, connection.ended], Math.min(until, port.now() + LOOK_AGAIN));
      if (other.connection?.isAttached !== true || other.connection.end !== undefined) continue;
      if ((yield* readNotes(other.connection, until))?.some(concernsIt) === true) return true;
    }
    return false;
  }
}

/** Of a PIN that has not been proven too many tries may lock the token, also those whose outcome nobody knows. */
function mayHaveBeenRefused(member: Member, token: TokenInfo): boolean {
  if (member.login.unknownLogins === 0) return false;
  return (
    member.login.unknownLogins >= MOST_UNKNOWN_LOGINS ||
    (token.flags & (CKF.userPinCountLow | CKF.userPinFinalTry)) !== 0
  );
}

interface LoginJudgement {
  readonly outcome: 'right' | 'wrong' | 'unknown';
  readonly reason: string;
  readonly code: number;
}

function judgeLogin(group: Group, member: Member, outcome: JobOutcome | undefined): LoginJudgement {
  const failure = outcome === undefined ? undefined : failureOf(outcome);
  const code = failure?.kind === 'code' ? failure.code : 0;
  if (outcome !== undefined && (failure === undefined || code === CKR.userAlreadyLoggedIn))
    return { outcome: 'right', reason: '', code };
  if (failure?.kind === 'code') {
    // A locked PIN says nothing of the PIN that was tried.
    const isRefused = code !== CKR.pinLocked && verdictOn(code, group.policy.verdicts) === 'credential';
    return { outcome: isRefused ? 'wrong' : 'unknown', reason: `C_Login answered ${codeName(code)}`, code };
  }
  member.login.addUnknown();
  const reason = failure?.kind === 'lost' ? `${failure.reason} in C_Login` : 'C_Login did not answer in time';
  return { outcome: 'unknown', reason, code };
}
