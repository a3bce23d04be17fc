import { EventEmitter } from 'node:events';
import { runCall } from '../../core/call.js';
import { TokenError } from '../../core/error.js';
import type {
  FailoverEvent,
  GroupEvent,
  MemberEvent,
  MisalignedEvent,
  MissingEvent,
  OutputEvent,
} from '../../core/event.js';
import { findByHandle, findObjects } from '../../core/find.js';
import type { VirtualObject } from '../../core/object.js';
import {
  decrypt,
  digest,
  encrypt,
  type Operation,
  random,
  readAttributes,
  sign,
  verify,
} from '../../core/operation.js';
import { type GroupStatus, statusOf } from '../../core/status.js';
import type { Task } from '../../core/task.js';
import { type ConfigurationSource, OpenGroup, readConfiguration } from '../../runtime/open-group.js';
import { type AttributeValue, attributeOf, decodeAttribute } from '../../spec/attribute.js';
import { ck } from '../../spec/constants.js';
import { bytesOf, InputError, integerOf } from '../../spec/input.js';
import { encodeMechanism, type Mechanism, type MechanismInput } from '../../spec/mechanism.js';
import { encodeTemplate, type Template } from '../../spec/template.js';
import { handleOf, type ObjectInput, TokenObject } from './object.js';

const CKR = {
  notInitialized: ck('CKR_CRYPTOKI_NOT_INITIALIZED'),
  objectHandleInvalid: ck('CKR_OBJECT_HANDLE_INVALID'),
  templateIncomplete: ck('CKR_TEMPLATE_INCOMPLETE'),
  attributeSensitive: ck('CKR_ATTRIBUTE_SENSITIVE'),
  attributeTypeInvalid: ck('CKR_ATTRIBUTE_TYPE_INVALID'),
} as const;

const LONGEST_DEADLINE = 2 ** 31 - 1;
const MOST_RANDOM = 16 * 1024 * 1024;
const MOST_DATA = 256 * 1024 * 1024;

/** What every call takes besides its own arguments. */
export interface CallOptions {
  /** The call's budget in ms; `policy.deadline` where none is given. */
  readonly deadline?: number;
  /** Gives the call up; it then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Bytes, or text that is taken as UTF-8. */
export type Data = Uint8Array | string;

interface TokenEvents {
  failover: [FailoverEvent];
  member: [MemberEvent];
  misaligned: [MisalignedEvent];
  missing: [MissingEvent];
  output: [OutputEvent];
}

type Calling<T> = (deadline: number) => Task<T>;

/**
 * A group of PKCS#11 tokens as one. Every call is balanced over the members, survives the loss of any of
 * them, and names a key by the same handle whichever member does the work.
 *
 * Calls reject with a `TokenError` (pkcs11js's `Pkcs11Error` with `code`, `method`, `member`, `attempts`),
 * or, before any member is touched, with an `InputError` (a TypeError) for bad input.
 *
 * Events: `failover`, `member`, `misaligned`, `missing`, `output`.
 */
export class VirtualToken extends EventEmitter<TokenEvents> {
  readonly #open: OpenGroup;

  private constructor(open: OpenGroup) {
    super();
    this.#open = open;
    open.onEvent((event: GroupEvent) => {
      this.emit(event.type, event as never);
    });
  }

  /**
   * Opens a group: from a configuration, or from the path of its YAML file. Resolves when a member is in
   * service and the others are too or have failed. Objects are not enumerated.
   *
   * Rejects with ConfigurationError (which line, what was expected), PinError, or TokenError: CKR_PIN_INCORRECT
   * after one try on one member, CKR_PIN_LOCKED, CKR_DEVICE_REMOVED when no member came into service.
   */
  static async open(source: ConfigurationSource, options: CallOptions = {}): Promise<VirtualToken> {
    const config = readConfiguration(source);
    const budget = budgetOf(options, config.policy.deadline);
    options.signal?.throwIfAborted();
    const open = new OpenGroup(config);
    const token = new VirtualToken(open);
    try {
      await open.awaitService(open.now() + budget, options.signal);
      return token;
    } catch (error) {
      await open.close();
      throw error;
    }
  }

  /** The virtual token's label (CKA_LABEL of the slot's token). */
  get label(): string {
    return this.#open.group.label;
  }

  /** The virtual token's serial: of the configuration, or made from the label. */
  get serial(): string {
    return this.#open.group.serial;
  }

  /** The members' states and what is out of step, as this process knows it; asks no member. */
  status(): GroupStatus {
    return statusOf(this.#open.group);
  }

  /** All objects that match the template on any member; without a template all objects. C_FindObjects, section 5.7. */
  async find(template?: Template, options?: CallOptions): Promise<TokenObject[]> {
    const attributes = encodeTemplate('template', template);
    const { group } = this.#open;
    const found = await this.#run((deadline) => findObjects(group, attributes, deadline), options);
    return found.map((object) => new TokenObject(object));
  }

  /** The one object that matches; none is CKR_OBJECT_HANDLE_INVALID, several are CKR_TEMPLATE_INCOMPLETE. */
  async get(template: Template, options?: CallOptions): Promise<TokenObject> {
    const found = await this.find(template, options);
    const [object] = found;
    if (object === undefined)
      throw new TokenError(CKR.objectHandleInvalid, 'C_FindObjects', 'no object matches the template');
    if (found.length === 1) return object;
    const kinds = found.map(({ class: name, type }) => `${name} ${type}`.trim()).join(', ');
    throw new TokenError(
      CKR.templateIncomplete,
      'C_FindObjects',
      `${found.length} objects match the template (${kinds})`,
    );
  }

  /** C_SignInit and C_Sign, section 5.11; also MACs. */
  async sign(mechanism: MechanismInput, key: ObjectInput, data: Data, options?: CallOptions): Promise<Buffer> {
    const input = copyOf('data', data);
    return await this.#perform(mechanism, key, (encoded, object) => sign(encoded, object, input), options);
  }

  /** C_VerifyInit and C_Verify, section 5.12: true, or false for a signature that is not the data's. */
  async verify(
    mechanism: MechanismInput,
    key: ObjectInput,
    data: Data,
    signature: Uint8Array,
    options?: CallOptions,
  ): Promise<boolean> {
    const input = copyOf('data', data);
    const claimed = copyOf('signature', signature);
    return await this.#perform(mechanism, key, (encoded, object) => verify(encoded, object, input, claimed), options);
  }

  /** C_EncryptInit and C_Encrypt, section 5.8. An IV that the token picks is written to the parameter's own buffer. */
  async encrypt(mechanism: MechanismInput, key: ObjectInput, data: Data, options?: CallOptions): Promise<Buffer> {
    const input = copyOf('data', data);
    return await this.#perform(mechanism, key, (encoded, object) => encrypt(encoded, object, input), options);
  }

  /** C_DecryptInit and C_Decrypt, section 5.9. */
  async decrypt(mechanism: MechanismInput, key: ObjectInput, data: Uint8Array, options?: CallOptions): Promise<Buffer> {
    const input = copyOf('data', data);
    return await this.#perform(mechanism, key, (encoded, object) => decrypt(encoded, object, input), options);
  }

  /** C_DigestInit and C_Digest, section 5.10. */
  async digest(mechanism: MechanismInput, data: Data, options?: CallOptions): Promise<Buffer> {
    const encoded = encodeMechanism('mechanism', mechanism);
    const input = copyOf('data', data);
    return await this.#run((deadline) => runCall(this.#open.group, digest(encoded, input), deadline), options);
  }

  /** C_GenerateRandom, section 5.15: `size` bytes, 1 to 16 MiB. */
  async random(size: number, options?: CallOptions): Promise<Buffer> {
    integerOf('size', size, 1, MOST_RANDOM);
    return await this.#run((deadline) => runCall(this.#open.group, random(size), deadline), options);
  }

  /**
   * C_GetAttributeValue, section 5.7: the attributes by graphene's names (`label`, `keyType`, `modulus`) or by
   * CKA numbers, as an object keyed by them. CKR_ATTRIBUTE_SENSITIVE and CKR_ATTRIBUTE_TYPE_INVALID name the attribute.
   */
  async getAttributes<N extends string | number>(
    key: ObjectInput,
    names: readonly N[],
    options?: CallOptions,
  ): Promise<Record<N, AttributeValue>> {
    if (!Array.isArray(names as unknown)) throw new InputError('names', 'an array of attribute names', names);
    const definitions = names.map((name, index) => attributeOf(`names[${index}]`, name));
    const types = definitions.map(({ type }) => type);
    const handle = handleOf('key', key);
    const read = await this.#run(
      (deadline) => this.#onObject(handle, (object) => readAttributes(object, types), deadline),
      options,
    );
    const values: Partial<Record<N, AttributeValue>> = {};
    for (const [index, name] of names.entries()) {
      const attribute = read[index];
      const definition = definitions[index];
      if (attribute === undefined || definition === undefined) continue;
      if (attribute.presence !== 'present') {
        const code = attribute.presence === 'sensitive' ? CKR.attributeSensitive : CKR.attributeTypeInvalid;
        throw new TokenError(code, 'C_GetAttributeValue', `attribute ${definition.name}`);
      }
      values[name] = decodeAttribute(definition, attribute.value);
    }
    return values as Record<N, AttributeValue>;
  }

  /** Finishes what is running, ends the hosts and forgets the PIN. Calls made afterwards are refused. */
  async close(): Promise<void> {
    await this.#open.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #perform<T>(
    mechanism: MechanismInput,
    key: ObjectInput,
    make: (mechanism: Mechanism, object: VirtualObject) => Operation<T>,
    options: CallOptions | undefined,
  ): Promise<T> {
    const encoded = encodeMechanism('mechanism', mechanism);
    const handle = handleOf('key', key);
    return await this.#run((deadline) => this.#onObject(handle, (object) => make(encoded, object), deadline), options);
  }

  *#onObject<T>(handle: number, make: (object: VirtualObject) => Operation<T>, deadline: number): Task<T> {
    const { group } = this.#open;
    const object = group.objects.get(handle) ?? (yield* findByHandle(group, handle, deadline));
    return yield* runCall(group, make(object), deadline);
  }

  async #run<T>(calling: Calling<T>, options: CallOptions = {}): Promise<T> {
    const { group, isClosed } = this.#open;
    const deadline = this.#open.now() + budgetOf(options, group.policy.deadline);
    if (isClosed) throw new TokenError(CKR.notInitialized, 'close', 'the virtual token is closed');
    return await this.#open.run(calling(deadline), options.signal);
  }
}

function budgetOf({ deadline }: CallOptions, otherwise: number): number {
  return deadline === undefined ? otherwise : integerOf('options.deadline', deadline, 1, LONGEST_DEADLINE);
}

/** A copy: the call may still run, or run again, when the caller has gone on to use its buffer. */
function copyOf(field: string, data: unknown): Buffer {
  const bytes = bytesOf(field, data);
  if (bytes.length > MOST_DATA) throw new InputError(field, `at most ${MOST_DATA} bytes`, data);
  return Buffer.from(bytes);
}
