import type { TokenInfo } from '../../spec/calls.js';
import { CKF, CKR } from '../../spec/codes.js';
import { codeName } from '../../spec/constants.js';
import type { SecretRef } from '../../spec/job.js';
import type { Signal, Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { JoinFailure } from './join-failure.js';
import { outcomeOf } from './library.js';
import { judgeLogin } from './login-judgement.js';
import { heedNotes, isBeingChanged } from './login-notes.js';
import { loginJob } from './login-renewal.js';
import { acceptPin, mayHaveBeenRefused, maySpendTry, otherPinThan } from './other-pin.js';

/**
 * Logs a joining member in. The PIN is tried once, and on one member at a time until a login has proven it (Rule 6).
 * If a PIN change was interrupted on the token, its refusal does not condemn the PIN. Such a member waits until another
 * member tells both PINs of the change, and tries the other PIN once.
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

/** Logs in once with a PIN that belongs to this token only; the outcome says nothing of the group's PIN. */
export function* logInWithOwnPin(
  group: Group,
  member: Member,
  connection: Connection,
  pin: SecretRef,
  deadline: number,
): Task<void> {
  const ended = yield* outcomeOf(connection, loginJob(member, pin), deadline);
  const { outcome, reason, code } = judgeLogin(group, member, ended);
  if (outcome === 'right') return;
  // A token without a PIN did not count this as a wrong try, so another login is harmless.
  throw new JoinFailure(reason, code !== CKR.userPinNotInitialized, code);
}

class PinLogin {
  /** True if the PIN was not tried, since the token had refused it before. */
  #isRemembered = false;

  constructor(
    readonly group: Group,
    readonly member: Member,
    readonly connection: Connection,
    readonly token: TokenInfo,
    readonly deadline: number,
  ) {}

  *run(): Task<void> {
    const { group, member, token } = this;
    if (member.login.refusal !== undefined)
      throw new JoinFailure(
        `the last login was refused with ${codeName(member.login.refusal)}`,
        true,
        member.login.refusal,
      );
    if ((token.flags & CKF.userPinLocked) !== 0)
      throw new JoinFailure("the token's user PIN is locked", true, CKR.pinLocked);
    while (member.login.isPinInDoubt) yield* this.#wait([group.pins.changed], "the token's PIN is being changed");
    yield* heedNotes(group, this.connection, this.deadline);
    yield* this.#awaitProof();
    const pin = group.pins.firstFor(member);
    if (pin === undefined) return;
    let refused: number | undefined;
    if (!member.login.refusedPins.has(pin)) {
      yield* this.#enter(pin);
      refused = yield* this.#try(pin);
      if (refused === undefined) return;
      if (this.#isRemembered && !group.logins.isProven && !(yield* this.#isBeingChanged())) {
        // A token that was not asked says nothing of the PIN on the others.
        group.logins.leave('unknown', 0, member.name);
        throw this.#refusedWith(refused);
      }
    }
    const other = yield* this.#otherThan(pin, refused);
    if (other === undefined) throw this.#refusedWith(refused ?? CKR.pinIncorrect, pin);
    yield* this.#enter(other);
    const code = yield* this.#try(other);
    if (code === undefined) return;
    group.logins.leave('wrong', code, member.name);
    throw this.#refusedWith(code, other);
  }

  /** Returns the PIN to try after a refusal; undefined if there is none. */
  *#otherThan(pin: SecretRef, refused: number | undefined): Task<SecretRef | undefined> {
    const { group, member, connection } = this;
    if (group.logins.isProven) {
      const other = yield* otherPinThan(group, member, connection, pin);
      if (other !== undefined || member.login.trialPin !== undefined) return other;
      // The member that has proven the PIN may not have read the other PIN yet.
      if (!(yield* this.#isBeingChanged())) return undefined;
    }
    return yield* this.#awaitOther(pin, refused);
  }

  /** Waits for a signal, at most until `until`; throws JoinFailure after the join's deadline or if the host ends. */
  *#wait(signals: readonly Signal[], reason: string, until: number = this.deadline): Task<void> {
    const { connection, deadline, group } = this;
    if (group.port.now() >= deadline) throw new JoinFailure(reason);
    yield* race([...signals, connection.ended], Math.min(until, deadline));
    if (connection.end !== undefined) throw new JoinFailure(connection.end.reason);
  }

  /** If the token has few tries left, waits until another member has proven the PIN, or none can. */
  *#awaitProof(): Task<void> {
    const { group, member, token } = this;
    const { logins, port, policy } = group;
    if ((token.flags & (CKF.userPinCountLow | CKF.userPinFinalTry)) === 0) return;
    const until = port.now() + policy.hangAfter;
    const mayProve = (other: Member): boolean =>
      other !== member &&
      other.state.name === 'joining' &&
      !other.login.awaitsProof &&
      other.login.refusal === undefined;
    member.login.setAwaitsProof(true);
    try {
      while (!logins.isProven && !logins.isRefused && port.now() < until && group.members.some(mayProve))
        yield* this.#wait([logins.changed, group.changed], 'another member is still logging in', until);
    } finally {
      member.login.setAwaitsProof(false);
    }
  }

  /** Lets the member try first whose answer tells most about the PIN, for a while. */
  *#awaitTurn(): Task<void> {
    const { group, member, token } = this;
    const { logins, port, policy } = group;
    const until = port.now() + policy.hangAfter;
    const mayBe = (other: Member, serial: string): boolean =>
      other !== member &&
      other.state.name === 'joining' &&
      other.login.refusal === undefined &&
      (other.token === undefined || other.token.serialNumber === serial);
    for (;;) {
      const { nextSerial, isProven, isRefused } = logins;
      if (nextSerial === undefined || nextSerial === token.serialNumber || isProven || isRefused) return;
      if (port.now() >= until || !group.members.some((other) => mayBe(other, nextSerial))) return;
      yield* this.#wait([logins.changed, group.changed], 'another member is to try the PIN first', until);
    }
  }

  /** Waits until the member may try the PIN; throws JoinFailure if it must not be tried. */
  *#enter(pin: SecretRef): Task<void> {
    const { group, member, token } = this;
    const { logins } = group;
    const isLow = (token.flags & (CKF.userPinCountLow | CKF.userPinFinalTry)) !== 0;
    for (;;) {
      yield* this.#awaitTurn();
      if (logins.isDoubted && !logins.isProven && isLow) throw this.#spared();
      if (logins.enter()) break;
      if (logins.isRefused) throw this.#stopped();
      yield* this.#wait([logins.changed], 'another member is still logging in');
    }
    if (this.#isTakenBack(pin)) throw this.#givenUp(!logins.isProven);
    if (logins.isProven || !mayHaveBeenRefused(member, token)) return;
    logins.leave('unknown', 0, member.name);
    throw new JoinFailure('too many logins ended without an answer, and no login has proven the PIN yet', true);
  }

  /** Returns true if the application's login with this PIN has failed: the PIN is not used any more. */
  #isTakenBack(pin: SecretRef): boolean {
    return this.group.pins.takenBack.has(pin);
  }

  /** Returns the failure for a PIN that was taken back; if `leaves`, lets the next member try first. */
  #givenUp(leaves: boolean): JoinFailure {
    if (leaves) this.group.logins.leave('unknown', 0, this.member.name);
    return new JoinFailure("the application's login failed meanwhile, and its PIN is not used any more");
  }

  /** Returns the failure of a token with few tries left, after a refusal that a PIN note made doubtful. */
  #spared(): JoinFailure {
    return new JoinFailure(
      'another member refused the PIN while a note tells of a PIN change, and this token has few tries left: give the PIN that it has',
      true,
      CKR.pinIncorrect,
    );
  }

  #stopped(): JoinFailure {
    const { code, member } = this.group.logins.refusal ?? { code: 0, member: '' };
    return new JoinFailure(`no login is tried, since ${member} answered ${codeName(code)}`, true);
  }

  /** Returns the failure after a refusal, which is remembered: programs that start again must not lock the token. */
  #refusedWith(code: number, pin?: SecretRef): JoinFailure {
    const { group, member, token } = this;
    member.login.refuse(code);
    if (this.#isRemembered)
      return new JoinFailure(
        `the token has refused this PIN twice (${codeName(code)}), so it is not tried again: correct the PIN's source, or run \`pkcs11-ha recover ${member.name}\` to try it once more`,
        true,
        code,
      );
    if (pin !== undefined && code === CKR.pinIncorrect && member.login.trialPin === undefined)
      group.coordinator.noteRefusal(token.serialNumber, pin, code);
    return new JoinFailure(`C_Login answered ${codeName(code)}`, true, code);
  }

  /** Tries the PIN once; returns the code of a refusal, which the other members have not been told yet. */
  *#try(pin: SecretRef): Task<number | undefined> {
    const { group, member, connection, deadline, token } = this;
    const { logins, port, policy, coordinator } = group;
    if (member.login.triesAgain) coordinator.forgetRefusals(token.serialNumber);
    member.login.tryAgain(true);
    const before = member.login.trialPin === undefined ? coordinator.refusalOf(token.serialNumber, pin) : undefined;
    this.#isRemembered = before !== undefined;
    if (before !== undefined) return before;
    const ticket = connection.submit(loginJob(member, pin), 'join', deadline);
    // While the PIN is unproven the other members wait for this login: if it hangs, they go on after `hangAfter`.
    const patience = Math.min(deadline, port.now() + policy.hangAfter);
    yield* race([ticket], patience);
    const isLate = !ticket.completed;
    if (isLate) {
      logins.leave('unknown', 0, member.name);
      yield* race([ticket], deadline);
    }
    const { outcome, reason, code } = judgeLogin(group, member, ticket.outcome);
    // If the PIN was taken back meanwhile, the outcome says nothing of the PIN that counts.
    if (this.#isTakenBack(pin)) throw this.#givenUp(!isLate);
    if (outcome === 'right') {
      acceptPin(group, member, pin);
      coordinator.forgetRefusals(token.serialNumber);
      logins.leave('right', 0, member.name);
      return undefined;
    }
    if (outcome === 'wrong') return code;
    // A late login has let the next member try already.
    if (!isLate) logins.leave('unknown', 0, member.name);
    if (code === CKR.pinLocked) throw this.#refusedWith(code);
    throw new JoinFailure(reason);
  }

  /**
   * Waits, after the refusal of a PIN that no login has proven, for the other PIN of a change on this token. `refused`
   * is undefined if the token had refused the PIN before. Returns undefined if there is no change, or no try left.
   */
  *#awaitOther(pin: SecretRef, refused: number | undefined): Task<SecretRef | undefined> {
    const { group, member } = this;
    const { logins, pins } = group;
    const isChanging = refused === undefined || (yield* this.#isBeingChanged());
    member.login.addRefused(pin);
    const mayDoubt = refused === undefined || logins.isProven || logins.doubt(member.name);
    if (!isChanging || !mayDoubt || !this.#mayBeTaken(pin)) {
      logins.leave('wrong', refused ?? CKR.pinIncorrect, member.name);
      return undefined;
    }
    if (refused !== undefined) logins.leave('unknown', refused, member.name);
    for (;;) {
      const other = pins.otherFor(member);
      if (other !== undefined) return (yield* maySpendTry(group, this.connection)) ? other : undefined;
      if (logins.isRefused) throw this.#stopped();
      if (!this.#mayBeTaken(pin)) return undefined;
      yield* this.#wait(
        [pins.changed, logins.changed, group.changed],
        'the token refused the PIN, a PIN change was interrupted, and no other member knows the other PIN',
      );
    }
  }

  #isBeingChanged(): Task<boolean> {
    const { group, member, connection, token, deadline } = this;
    return isBeingChanged(group, member, connection, token, deadline);
  }

  /** Returns true if another member may still take the PIN that this one has refused. */
  #mayBeTaken(pin: SecretRef): boolean {
    return this.group.members.some(
      (other) =>
        other.name !== this.member.name &&
        other.login.refusal === undefined &&
        !other.login.refusedPins.has(pin) &&
        other.state.name !== 'drained' &&
        !(other.state.name === 'down' && other.state.retryAt === Number.POSITIVE_INFINITY),
    );
  }
}
