import type { SecretRef } from '../../spec/job.js';

/** The login of a member: which PIN it has taken, which it has refused, and what is known of a change under way. */
export class MemberLogin {
  /** CKR code of the refusal that ended all tries on this token; see Rule 6. */
  refusal: number | undefined;
  /** CKR code of the refused login for an ALWAYS_AUTHENTICATE key: that PIN is not tried again. */
  contextRefusal: number | undefined;
  /** PIN of the last good login. */
  pin: SecretRef | undefined;
  /** PINs that the token has refused since the last good login. */
  readonly refusedPins: Set<SecretRef> = new Set<SecretRef>();
  /** True while the PIN is being changed: no login is tried until the outcome is known. */
  isPinInDoubt: boolean = false;
  /** The only PIN that this member exists to try. */
  trialPin: SecretRef | undefined;
  /** True while the token has few tries left and another member is to prove the PIN first. */
  awaitsProof: boolean = false;
  /** Number of logins without an answer while the PIN was not proven: each may have cost a try. */
  unknownLogins: number = 0;
  /** True where nobody logs in. */
  skipsLogin: boolean = false;
  /** The PIN of a token that is no member of the group. */
  ownPin: SecretRef | undefined;

  refuse(code: number): void {
    this.refusal = code;
  }

  refuseContext(code: number): void {
    this.contextRefusal = code;
  }

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

  setAwaitsProof(awaits: boolean): void {
    this.awaitsProof = awaits;
  }

  beginPinChange(): void {
    this.isPinInDoubt = true;
  }

  /** Notes the PIN that the token has after a change; undefined where nobody knows which one. */
  notePin(pin: SecretRef | undefined): void {
    this.refusedPins.clear();
    this.pin = pin;
  }

  endPinChange(): void {
    this.isPinInDoubt = false;
  }

  /** Forgets all PINs and refusals: another PIN is going to be tried. */
  reset(): void {
    this.refusal = undefined;
    this.pin = undefined;
    this.refusedPins.clear();
  }

  /** Takes over what another member of the same token knows. */
  copyFrom(model: MemberLogin): void {
    this.pin = model.pin;
    this.refusal = model.refusal;
    for (const pin of model.refusedPins) this.refusedPins.add(pin);
    this.unknownLogins = model.unknownLogins;
  }

  /** Takes over the refusals that a spare host of the same token has met. While the PIN is changed they say nothing. */
  learnRefusals(spare: MemberLogin): void {
    if (this.isPinInDoubt) return;
    this.refusal ??= spare.refusal;
    for (const pin of spare.refusedPins) this.refusedPins.add(pin);
    this.unknownLogins = spare.unknownLogins;
  }

  /** Takes over the PIN that a spare host of the same token has logged in with. */
  learnPin(spare: MemberLogin): void {
    this.pin = spare.pin;
  }

  tryOnly(pin: SecretRef): void {
    this.trialPin = pin;
  }

  useOwn(pin: SecretRef | undefined): void {
    this.ownPin = pin;
  }

  skip(): void {
    this.skipsLogin = true;
  }
}
