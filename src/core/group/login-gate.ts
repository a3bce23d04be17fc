import { Signal } from '../base/task.js';
import type { PinNote } from '../records/record.js';

/**
 * Gate that guards the members against a wrong PIN (Rule 6). Until a login has proven the PIN, one member at a time may
 * try it, and the first refusal ends all logins. After that a refusal concerns only the member that gave it.
 */
export class LoginGate {
  #state: 'unproven' | 'trying' | 'proven' | 'refused' = 'unproven';
  /** Fires when a login has ended. */
  readonly changed: Signal = new Signal();
  /** CKR code that ended all logins, and the member that gave it. */
  refusal: { readonly code: number; readonly member: string } | undefined;

  get isRefused(): boolean {
    return this.#state === 'refused';
  }

  get isProven(): boolean {
    return this.#state === 'proven';
  }

  /** Member whose refusal did not end the logins, since a PIN note told of a change. */
  #doubted: string | undefined;

  /** True once a refusal did not end the logins: one further member may try the PIN (Rule 6). */
  get isDoubted(): boolean {
    return this.#doubted !== undefined;
  }

  /**
   * Lets one further member try a PIN that a member has refused while a PIN note told of a change. Anybody can write
   * such notes. Returns false if another member's refusal was doubted before: this one ends the logins.
   */
  doubt(member: string): boolean {
    this.#doubted ??= member;
    return this.#doubted === member;
  }

  /** Newest PIN note of a running change that was seen before a login. */
  #hint: PinNote | undefined;

  /** Takes a PIN note that was read before a login. Anybody can write one: it decides who tries a PIN, no more. */
  heed(note: PinNote): void {
    if (note.state !== 'changing' || note.time <= (this.#hint?.time ?? -1)) return;
    this.#hint = note;
    this.changed.fire();
  }

  /**
   * Serial of the token that is to try the PIN next; undefined if any may. A change goes from the first participant to
   * the last. If the first one refuses a PIN of the change, the last one has it: two tries tell.
   */
  get nextSerial(): string | undefined {
    const { participants = [] } = this.#hint ?? {};
    return this.isDoubted ? participants.at(-1) : participants[0];
  }

  /** Begins anew for another PIN. */
  reset(): void {
    this.#state = 'unproven';
    this.refusal = undefined;
    this.#doubted = undefined;
  }

  /** Returns true if the login may go on now; then `leave` must follow. */
  enter(): boolean {
    if (this.#state === 'proven') return true;
    if (this.#state !== 'unproven') return false;
    this.#state = 'trying';
    return true;
  }

  /** Takes the outcome of a login. `unknown`: no answer about the PIN, or none yet; then another outcome may follow. */
  leave(outcome: 'right' | 'wrong' | 'unknown', code: number, member: string): void {
    if (outcome === 'right') {
      this.#state = 'proven';
    } else if (outcome === 'wrong' && this.#state !== 'proven') {
      this.#state = 'refused';
      this.refusal = { code, member };
    } else if (this.#state === 'trying') {
      this.#state = 'unproven';
    }
    this.changed.fire();
  }
}
