import { Signal } from '../base/task.js';

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

  /** Begins anew for another PIN. */
  reset(): void {
    this.#state = 'unproven';
    this.refusal = undefined;
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
