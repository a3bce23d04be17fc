import type { GroupEvent } from '../../core/base/event.js';
import type { Task } from '../../core/base/task.js';
import { runCall } from '../../core/call/call.js';
import { findKey, visibleObject } from '../../core/call/lookup.js';
import { decrypt, digest, encrypt, type Operation, random, sign, verify } from '../../core/jobs/operation.js';
import type { VirtualObject } from '../../core/objects/object.js';
import { type GroupStatus, statusOf } from '../../core/status/status.js';
import { type ConfigurationSource, readConfiguration } from '../../runtime/groups/configuration-source.js';
import { OpenGroup } from '../../runtime/groups/open-group.js';
import { CKR } from '../../spec/codes.js';
import { flagOf, integerOf } from '../../spec/input.js';
import { encodeMechanism, type Mechanism, type MechanismInput } from '../../spec/mechanism.js';
import { budgetOf, type CallOptions, copyOf, runWithin } from './input.js';
import { handleOf, type ObjectInput } from './object.js';
import { ObjectToken } from './object-token.js';

/** Maximum size of one `random` call (bytes). */
const MOST_RANDOM = 16 * 1024 * 1024;

export interface OpenOptions extends CallOptions {
  /**
   * False to act as an application that has not logged in: private objects do not exist for it. Members log in all the
   * same. True by default.
   */
  readonly login?: boolean;
}

/** Bytes, or text that is encoded as UTF-8. */
export type Data = Uint8Array | string;

/**
 * Group of PKCS#11 tokens that acts as one token. Calls are balanced over the members and survive the loss of any of
 * them. A key has the same handle whichever member does the work.
 *
 * Calls reject with a `TokenError` (pkcs11js's `Pkcs11Error` with `code`, `method`, `member`, `attempts`),
 * or, before any member is touched, with an `InputError` (a TypeError) for bad input.
 *
 * Events: `failover`, `member`, `misaligned`, `missing`, `sync`, `membership`, `pin`, `progress`, `configuration`,
 * `coordination`, `output`.
 */
export class VirtualToken extends ObjectToken {
  readonly #open: OpenGroup;

  private constructor(open: OpenGroup) {
    super(open);
    this.#open = open;
    open.onEvent((event: GroupEvent) => {
      this.emit(event.type, event as never);
    });
  }

  /**
   * Opens a group from a configuration, or from the path of its YAML file. Resolves when every member serves or has
   * failed, at most a second after the first one serves. Objects are not enumerated.
   *
   * Rejects with ConfigurationError (names the line and what is expected), PinError, or TokenError: CKR_PIN_INCORRECT
   * after one try on one member, CKR_PIN_LOCKED, CKR_DEVICE_REMOVED if no member came into service.
   */
  static async open(source: ConfigurationSource, options: OpenOptions = {}): Promise<VirtualToken> {
    const config = readConfiguration(source);
    const budget = budgetOf(options, config.policy.deadline, ['login']);
    const isApplicationsLogin = options.login === undefined || flagOf('options.login', options.login);
    options.signal?.throwIfAborted();
    const startedAt = performance.now();
    const path = typeof source === 'string' ? source : undefined;
    const open = await OpenGroup.open(config, { path, within: budget, signal: options.signal });
    if (!isApplicationsLogin) open.group.isLoggedIn = false;
    const token = new VirtualToken(open);
    try {
      await open.awaitService(open.now() + budget - (performance.now() - startedAt), options.signal);
      return token;
    } catch (error) {
      await open.close();
      throw error;
    }
  }

  /** Label of the virtual token (CKA_LABEL of the slot's token). */
  get label(): string {
    return this.#open.group.label;
  }

  /** Serial of the virtual token, from the configuration or derived from the label. */
  get serial(): string {
    return this.#open.group.serial;
  }

  /** Returns the members' states and what is out of step, as this process knows it; asks no member. */
  status(): GroupStatus {
    return statusOf(this.#open.group);
  }

  /** Signs data, or computes a MAC. C_SignInit and C_Sign, section 5.11. */
  async sign(mechanism: MechanismInput, key: ObjectInput, data: Data, options?: CallOptions): Promise<Buffer> {
    const input = copyOf('data', data);
    return await this.#perform('C_Sign', mechanism, key, (encoded, object) => sign(encoded, object, input), options);
  }

  /** Verifies a signature; false if it is not a signature of the data. C_VerifyInit and C_Verify, section 5.12. */
  async verify(
    mechanism: MechanismInput,
    key: ObjectInput,
    data: Data,
    signature: Uint8Array,
    options?: CallOptions,
  ): Promise<boolean> {
    const input = copyOf('data', data);
    const claimed = copyOf('signature', signature);
    return await this.#perform(
      'C_Verify',
      mechanism,
      key,
      (encoded, object) => verify(encoded, object, input, claimed),
      options,
    );
  }

  /**
   * Encrypts data. C_EncryptInit and C_Encrypt, section 5.8. If the token picks the IV, the call writes that IV to the
   * parameter's own buffer.
   */
  async encrypt(mechanism: MechanismInput, key: ObjectInput, data: Data, options?: CallOptions): Promise<Buffer> {
    const input = copyOf('data', data);
    return await this.#perform(
      'C_Encrypt',
      mechanism,
      key,
      (encoded, object) => encrypt(encoded, object, input),
      options,
    );
  }

  /** Decrypts data. C_DecryptInit and C_Decrypt, section 5.9. */
  async decrypt(mechanism: MechanismInput, key: ObjectInput, data: Uint8Array, options?: CallOptions): Promise<Buffer> {
    const input = copyOf('data', data);
    return await this.#perform(
      'C_Decrypt',
      mechanism,
      key,
      (encoded, object) => decrypt(encoded, object, input),
      options,
    );
  }

  /** Digests data. C_DigestInit and C_Digest, section 5.10. */
  async digest(mechanism: MechanismInput, data: Data, options?: CallOptions): Promise<Buffer> {
    const encoded = encodeMechanism('mechanism', mechanism);
    const input = copyOf('data', data);
    return await runWithin(
      this.#open,
      (deadline) => runCall(this.#open.group, digest(encoded, input), deadline),
      options,
    );
  }

  /** Returns random bytes, `size` of them: 1 byte to 16 MiB. C_GenerateRandom, section 5.15. */
  async random(size: number, options?: CallOptions): Promise<Buffer> {
    integerOf('size', size, 1, MOST_RANDOM);
    return await runWithin(this.#open, (deadline) => runCall(this.#open.group, random(size), deadline), options);
  }

  /** Finishes running calls, ends the hosts and wipes the PIN. Later calls reject with CKR_CRYPTOKI_NOT_INITIALIZED. */
  async close(): Promise<void> {
    await this.#open.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // Stays without `async`, so that a call creates one promise less; errors thrown here reject the calling method's
  // promise.
  #perform<T>(
    functionName: string,
    mechanism: MechanismInput,
    key: ObjectInput,
    make: (mechanism: Mechanism, object: VirtualObject) => Operation<T>,
    options: CallOptions | undefined,
  ): Promise<T> {
    const encoded = encodeMechanism('mechanism', mechanism);
    const handle = handleOf('key', key);
    return runWithin(
      this.#open,
      (deadline) => {
        const { group } = this.#open;
        const known = visibleObject(group, handle);
        if (known !== undefined) return runCall(group, make(encoded, known), deadline);
        return this.#onObject(functionName, handle, (object) => make(encoded, object), deadline);
      },
      options,
    );
  }

  *#onObject<T>(
    functionName: string,
    handle: number,
    make: (object: VirtualObject) => Operation<T>,
    deadline: number,
  ): Task<T> {
    const { group } = this.#open;
    const object = yield* findKey(group, handle, CKR.keyHandleInvalid, functionName, deadline);
    return yield* runCall(group, make(object), deadline);
  }
}
