import type { SecretRef } from '../../spec/job.js';

/** Login of a member: the PINs that its token accepted or refused, and a PIN change that is running. */
export class MemberLogin {
  /** CKR code of the refusal that ended all tries on this token (Rule 6). */
  refusal: number | undefined;
  /** CKR code of a refused login for an ALWAYS_AUTHENTICATE key; that PIN is not tried again. */
  contextRefusal: number | undefined;
  /** PIN of the last good login. */
  pin: SecretRef | undefined;
  /** PINs that the token has refused since the last good login. */
  readonly refusedPins: Set<SecretRef> = new Set<SecretRef>();
  /** True while the PIN is being changed: no login is tried until the outcome is known. */
  isPinInDoubt: boolean = false;
  /** PIN that this member tries, and no other; undefined for a member that uses the group's PIN. */
  trialPin: SecretRef | undefined;
  /** True while the token has few tries left, so that another member is to prove the PIN first. */
  awaitsProof: boolean = false;
  /** Number of logins without an answer while the PIN was not proven: each may have cost a try. */
  unknownLogins: number = 0;
  /** True if an operator wants a PIN tried that the token has refused in other processes. */
  triesAgain: boolean = false;
  /** True if the host does not log in. */
  skipsLogin: boolean = false;
  /** PIN of a token that is no member of the group. */
  ownPin: SecretRef | undefined;

  /** Has the next login try a PIN that the token has refused in other processes; `isDone` after that login. */
  tryAgain(isDone = false): void {
    this.triesAgain = !isDone;
  }

  /** Ends all tries on this token. */
  refuse(code: number): void {
    this.refusal = code;
  }

  /** Notes a refused login for an ALWAYS_AUTHENTICATE key. */
  refuseContext(code: number): void {
    this.contextRefusal = code;
  }

  /** Notes a PIN that the token has refused. */
  addRefused(pin: SecretRef): void {
    this.refusedPins.add(pin);
  }

  /** Notes a good login. */
  accept(pin: SecretRef): void {
    this.contextRefusal = undefined;
    this.pin = pin;
    this.refusedPins.clear();
    this.unknownLogins = 0;
  }

  /** Notes a login that ended without an answer. */
  addUnknown(): void {
    this.unknownLogins += 1;
  }

  /** Sets whether another member is to prove the PIN first. */
  setAwaitsProof(awaits: boolean): void {
    this.awaitsProof = awaits;
  }

  /** Stops logins while the PIN is being changed. */
  beginPinChange(): void {
    this.isPinInDoubt = true;
  }

  /** Notes the PIN of the token after a change; undefined if it is not known. */
  notePin(pin: SecretRef | undefined): void {
    this.refusedPins.clear();
    this.pin = pin;
  }

  /** Allows logins after a PIN change. */
  endPinChange(): void {
    this.isPinInDoubt = false;
  }

  /** Forgets all PINs and refusals, for a login with another PIN. */
  reset(): void {
    this.refusal = undefined;
    this.pin = undefined;
    this.refusedPins.clear();
  }

  /** Copies the login of the token's member to its spare host. */
  copyFrom(original: MemberLogin): void {
    this.pin = original.pin;
    this.refusal = original.refusal;
    for (const pin of original.refusedPins) this.refusedPins.add(pin);
    this.unknownLogins = original.unknownLogins;
  }

  /** Copies the refusals that a spare host has met. While the PIN is being changed, refusals prove nothing. */
  learnRefusals(spare: MemberLogin): void {
    if (this.isPinInDoubt) return;
    this.refusal ??= spare.refusal;
    for (const pin of spare.refusedPins) this.refusedPins.add(pin);
    this.unknownLogins = spare.unknownLogins;
  }

  /** Copies the PIN that a spare host has logged in with. */
  learnPin(spare: MemberLogin): void {
    this.pin = spare.pin;
  }

  /** Restricts the member to one PIN. */
  tryOnly(pin: SecretRef): void {
    this.trialPin = pin;
  }

  /** Sets the PIN of a token that is no member of the group. */
  useOwn(pin: SecretRef | undefined): void {
    this.ownPin = pin;
  }

  /** Has the host not log in. */
  skip(): void {
    this.skipsLogin = true;
  }
}
