import { Signal } from '../base/task.js';

/**
 * Guards the members against a wrong PIN (Rule 6): until the PIN has been proven right by one login, one
 * member at a time may try it, and the first refusal ends all logins. After a success a refusal is that
 * member's own affair.
 */
export class LoginGate {
  #state: 'unproven' | 'trying' | 'proven' | 'refused' = 'unproven';
  /** Fires when a login has ended. */
  readonly changed: Signal = new Signal();
  /** The code that ended all logins. */
  refusal: { readonly code: number; readonly member: string } | undefined;

  get isRefused(): boolean {
    return this.#state === 'refused';
  }

  get isProven(): boolean {
    return this.#state === 'proven';
  }

  /** Another PIN is going to be tried. */
  reset(): void {
    this.#state = 'unproven';
    this.refusal = undefined;
  }

  /** True when the login may go on now; then `leave` must follow. */
  enter(): boolean {
    if (this.#state === 'proven') return true;
    if (this.#state !== 'unproven') return false;
    this.#state = 'trying';
    return true;
  }

  /** `unknown`: no answer yet, or one that says nothing about the PIN. An answer may still follow. */
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
