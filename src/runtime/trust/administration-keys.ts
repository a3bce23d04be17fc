import { type Authority, Signing } from '../../core/base/port.js';
import type { AdministrationConfig, PinReference } from '../../core/configuration/configuration.js';
import { ConfigurationError } from '../../core/configuration/validation.js';
import { fetchPinBytes } from '../secrets/pin.js';
import { generateAdministrationKey, SigningKey, verifyStatement } from './administration-key.js';
import { KeyStore } from './key-store.js';

/** Reads a private administration key from its source. Rejects with ConfigurationError. */
async function readKey(reference: PinReference): Promise<SigningKey> {
  let bytes: Buffer | undefined;
  try {
    bytes = await fetchPinBytes(reference);
    return new SigningKey(bytes);
  } catch (error) {
    const { message } = error as Error;
    throw new ConfigurationError('administration.key', [message.replace(/^pin[.:]?\s*/u, '')]);
  } finally {
    bytes?.fill(0);
  }
}

/** Reads the configured private key, and checks that it is that of the public one. Rejects with ConfigurationError. */
export async function checkAdministration({ publicKeys, key }: AdministrationConfig): Promise<void> {
  if (key === undefined)
    throw new ConfigurationError('administration.key', [
      'expected the source of the private key, which signs the record of the group',
    ]);
  checkHalf(publicKeys, await readKey(key));
}

function checkHalf(publicKeys: readonly string[], key: SigningKey): void {
  if (!publicKeys.includes(key.publicKey))
    throw new ConfigurationError('administration.key', ['expected the private half of administration.publicKey']);
}

/**
 * Administration keys of a group in this process (Rule 19): those of the configuration, or else those that this account
 * keeps for groups that it has created. The private half is read for each signature, and forgotten.
 */
export class AdministrationKeys implements Authority {
  #config: AdministrationConfig | undefined;
  readonly #moved: () => void;
  readonly #store = new KeyStore();
  readonly #trustsAll: boolean;

  /**
   * Calls `moved` when a signing has ended, so that tasks are stepped. With `trustsAll` every record is taken as one of
   * a group without a key, so that an operator can see it and sign it.
   */
  constructor(config: AdministrationConfig | undefined, moved: () => void, trustsAll = false) {
    this.#config = config;
    this.#moved = moved;
    this.#trustsAll = trustsAll;
  }

  /** Takes the setting of a changed configuration. */
  configure(config: AdministrationConfig | undefined): void {
    this.#config = config;
  }

  keysFor(group: string): readonly string[] | undefined {
    if (this.#trustsAll) return undefined;
    return this.#config?.publicKeys ?? this.#store.publicKeysOf(group);
  }

  verify(key: string, statement: Uint8Array, signature: string): boolean {
    return verifyStatement(key, statement, signature);
  }

  canSign(group: string): boolean {
    return this.#config === undefined ? this.#store.hasPrivate(group) : this.#config.key !== undefined;
  }

  prepare(group: string): string | undefined {
    if (this.#config !== undefined) return undefined;
    try {
      this.#store.keep(group, generateAdministrationKey());
      return undefined;
    } catch (error) {
      const { code = 'unknown' } = error as NodeJS.ErrnoException;
      return `no administration key can be kept in ${this.#store.folder} (${code}): state administration.publicKey and administration.key in the configuration`;
    }
  }

  discard(group: string): void {
    if (this.#config === undefined) this.#store.remove(group);
  }

  sign(group: string, statement: Uint8Array): Signing {
    const signing = new Signing();
    this.#sign(group, statement).then(
      (signature) => {
        signing.signature = signature;
        this.#complete(signing);
      },
      (error: unknown) => {
        signing.problem = error instanceof Error ? error.message : String(error);
        this.#complete(signing);
      },
    );
    return signing;
  }

  async #sign(group: string, statement: Uint8Array): Promise<{ key: string; value: string }> {
    if (!this.canSign(group))
      throw new Error('the private administration key is not on this host (administration.key)');
    const key = await readKey(this.#config?.key ?? { file: this.#store.privatePath(group) });
    if (this.#config !== undefined) checkHalf(this.#config.publicKeys, key);
    return { key: key.publicKey, value: key.sign(statement) };
  }

  #complete(signing: Signing): void {
    signing.complete();
    this.#moved();
  }
}
