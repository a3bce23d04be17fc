import { PinReading, type SecretStore } from '../../core/base/port.js';
import type { PinReference } from '../../core/configuration/configuration.js';
import type { SecretRef } from '../../spec/job.js';
import { addon, type NativeSecret } from '../hosts/addon.js';
import { fetchPin } from './pin.js';

/** PINs that an open group holds; all are wiped when the group closes. */
export class Secrets implements SecretStore {
  readonly #held = new Set<NativeSecret>();
  readonly #source: PinReference | undefined;
  readonly #moved: () => void;
  #isClosed: boolean = false;

  /** Calls `moved` when a reading has ended, so that tasks are stepped. */
  constructor(source: PinReference | undefined, moved: () => void) {
    this.#source = source;
    this.#moved = moved;
  }

  hold(secret: NativeSecret): NativeSecret {
    this.#held.add(secret);
    return secret;
  }

  make(bytes: Uint8Array): SecretRef {
    return this.hold(new addon.Secret(bytes));
  }

  joined(first: SecretRef, second: SecretRef): SecretRef {
    return this.hold(addon.Secret.joined(first as NativeSecret, second as NativeSecret));
  }

  areEqual(one: SecretRef, other: SecretRef): boolean {
    // Treats a wiped secret as different: its length is 0, and `equals` would throw.
    return one.length > 0 && other.length > 0 && (one as NativeSecret).equals(other as NativeSecret);
  }

  wipe(secret: SecretRef): void {
    this.#held.delete(secret as NativeSecret);
    (secret as NativeSecret).wipe();
  }

  readAgain(): PinReading {
    const reading = new PinReading();
    // Completes without a secret: an environment variable does not change.
    if (this.#source === undefined || this.#source.env !== undefined) {
      reading.complete();
      return reading;
    }
    fetchPin(this.#source).then(
      (secret) => {
        if (this.#isClosed) secret.wipe();
        else reading.secret = this.hold(secret);
        this.#complete(reading);
      },
      () => this.#complete(reading),
    );
    return reading;
  }

  wipeAll(): void {
    this.#isClosed = true;
    for (const secret of this.#held) secret.wipe();
    this.#held.clear();
  }

  #complete(reading: PinReading): void {
    reading.complete();
    if (!this.#isClosed) this.#moved();
  }
}
