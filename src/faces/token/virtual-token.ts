import { TokenError } from '../../core/base/error.js';
import type { GroupEvent } from '../../core/base/event.js';
import type { Task } from '../../core/base/task.js';
import { runCall } from '../../core/call/call.js';
import { findObjects } from '../../core/call/find.js';
import { checkClass, findKey, visibleObject } from '../../core/call/lookup.js';
import { readObject } from '../../core/call/reading.js';
import {
  type CreationRequest,
  requestCopy,
  requestCreate,
  requestDerive,
  requestGenerate,
  requestGeneratePair,
  requestUnwrap,
} from '../../core/jobs/creation-request.js';
import { decrypt, digest, encrypt, type Operation, random, sign, verify, wrapKey } from '../../core/jobs/operation.js';
import type { VirtualObject } from '../../core/objects/object.js';
import { changeAttributes } from '../../core/replication/attribute-change.js';
import { createObjects } from '../../core/replication/creation.js';
import { destroyObject } from '../../core/replication/destruction.js';
import { type GroupStatus, statusOf } from '../../core/status/status.js';
import { type ConfigurationSource, OpenGroup, readConfiguration } from '../../runtime/groups/open-group.js';
import { type AttributeValue, attributeOf, decodeAttribute } from '../../spec/attribute.js';
import type { ReadAttribute } from '../../spec/calls.js';
import { CKO, CKR } from '../../spec/codes.js';
import { InputError, integerOf } from '../../spec/input.js';
import { encodeMechanism, type Mechanism, type MechanismInput } from '../../spec/mechanism.js';
import { encodeTemplate, type Template } from '../../spec/template.js';
import { AdministeredToken } from './administration.js';
import { budgetOf, type CallOptions, checkOpen, copyOf, copyOfTemplate, tokenObject } from './input.js';
import { handleOf, type ObjectInput, TokenObject } from './object.js';

const MOST_RANDOM = 16 * 1024 * 1024;

export interface OpenOptions extends CallOptions {
  /** False: as an application that has not logged in. Private objects do not exist then; members log in all the same. */
  readonly login?: boolean;
}

/** Bytes, or text that is taken as UTF-8. */
export type Data = Uint8Array | string;

type Calling<T> = (deadline: number) => Task<T>;
const NO_OPTIONS: CallOptions = {};

/**
 * A group of PKCS#11 tokens as one. Every call is balanced over the members, survives the loss of any of
 * them, and names a key by the same handle whichever member does the work.
 *
 * Calls reject with a `TokenError` (pkcs11js's `Pkcs11Error` with `code`, `method`, `member`, `attempts`),
 * or, before any member is touched, with an `InputError` (a TypeError) for bad input.
 *
 * Events: `failover`, `member`, `misaligned`, `missing`, `sync`, `membership`, `pin`, `progress`, `configuration`, `output`.
 */
export class VirtualToken extends AdministeredToken {
  readonly #open: OpenGroup;

  private constructor(open: OpenGroup) {
    super(open);
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
  static async open(source: ConfigurationSource, options: OpenOptions = {}): Promise<VirtualToken> {
    const config = readConfiguration(source);
    const budget = budgetOf(options, config.policy.deadline);
    options.signal?.throwIfAborted();
    const open = new OpenGroup(config, typeof source === 'string' ? source : undefined);
    if (options.login === false) open.group.isLoggedIn = false;
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
    return await this.#perform('C_Sign', mechanism, key, (encoded, object) => sign(encoded, object, input), options);
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
    return await this.#perform(
      'C_Verify',
      mechanism,
      key,
      (encoded, object) => verify(encoded, object, input, claimed),
      options,
    );
  }

  /** C_EncryptInit and C_Encrypt, section 5.8. An IV that the token picks is written to the parameter's own buffer. */
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

  /** C_DecryptInit and C_Decrypt, section 5.9. */
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
    const read = await this.#run((deadline) => this.#read(handle, types, deadline), options);
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

  /**
   * C_GenerateKey, section 5.13: a secret key. A token object has it on every member before this resolves; without
   * `token: true` it is a session object, which lives until `close()`.
   */
  async generateKey(mechanism: MechanismInput, template: Template, options?: CallOptions): Promise<TokenObject> {
    const encoded = encodeMechanism('mechanism', mechanism);
    const attributes = copyOfTemplate('template', template);
    return await this.#create(() => requestGenerate(encoded, attributes), options);
  }

  /** C_GenerateKeyPair, section 5.13. */
  async generateKeyPair(
    mechanism: MechanismInput,
    publicTemplate: Template,
    privateTemplate: Template,
    options?: CallOptions,
  ): Promise<{ publicKey: TokenObject; privateKey: TokenObject }> {
    const encoded = encodeMechanism('mechanism', mechanism);
    const ofPublic = copyOfTemplate('publicTemplate', publicTemplate);
    const ofPrivate = copyOfTemplate('privateTemplate', privateTemplate);
    const { group } = this.#open;
    const [publicKey, privateKey] = await this.#run(
      (deadline) => createObjects(group, requestGeneratePair(encoded, ofPublic, ofPrivate), deadline),
      options,
    );
    return { publicKey: tokenObject(publicKey), privateKey: tokenObject(privateKey) };
  }

  /** C_CreateObject, section 5.7: a key from its value, a certificate or a data object. */
  async createObject(template: Template, options?: CallOptions): Promise<TokenObject> {
    const attributes = copyOfTemplate('template', template);
    return await this.#create(() => requestCreate(attributes), options);
  }

  /** C_CopyObject, section 5.7: the template says what is other in the copy. */
  async copyObject(object: ObjectInput, template: Template, options?: CallOptions): Promise<TokenObject> {
    const attributes = copyOfTemplate('template', template);
    const handle = handleOf('object', object);
    return await this.#createFrom(
      'C_CopyObject',
      handle,
      CKR.objectHandleInvalid,
      (source) => requestCopy(source, attributes),
      options,
    );
  }

  /**
   * C_UnwrapKey, section 5.13. The template has to have class and key type. CKR_UNWRAPPING_KEY_HANDLE_INVALID and
   * CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT are about `key`.
   */
  async unwrapKey(
    mechanism: MechanismInput,
    key: ObjectInput,
    wrapped: Uint8Array,
    template: Template,
    options?: CallOptions,
  ): Promise<TokenObject> {
    const encoded = encodeMechanism('mechanism', mechanism);
    const attributes = copyOfTemplate('template', template);
    const blob = copyOf('wrapped', wrapped);
    const handle = handleOf('key', key);
    const make = (source: VirtualObject): CreationRequest => {
      checkClass('C_UnwrapKey', source, [CKO.secretKey, CKO.privateKey], CKR.unwrappingKeyTypeInconsistent);
      return requestUnwrap(encoded, source, blob, attributes);
    };
    return await this.#createFrom('C_UnwrapKey', handle, CKR.unwrappingKeyHandleInvalid, make, options);
  }

  /** C_DeriveKey, section 5.13. The template has to have class and key type. */
  async deriveKey(
    mechanism: MechanismInput,
    key: ObjectInput,
    template: Template,
    options?: CallOptions,
  ): Promise<TokenObject> {
    const encoded = encodeMechanism('mechanism', mechanism);
    const attributes = copyOfTemplate('template', template);
    const handle = handleOf('key', key);
    const make = (source: VirtualObject): CreationRequest => {
      checkClass('C_DeriveKey', source, [CKO.secretKey, CKO.privateKey], CKR.keyTypeInconsistent);
      return requestDerive(encoded, source, attributes);
    };
    return await this.#createFrom('C_DeriveKey', handle, CKR.keyHandleInvalid, make, options);
  }

  /** C_WrapKey, section 5.13: `key` wrapped with `wrappingKey`. */
  async wrapKey(
    mechanism: MechanismInput,
    wrappingKey: ObjectInput,
    key: ObjectInput,
    options?: CallOptions,
  ): Promise<Buffer> {
    const encoded = encodeMechanism('mechanism', mechanism);
    const wrapping = handleOf('wrappingKey', wrappingKey);
    const wrapped = handleOf('key', key);
    const { group } = this.#open;
    return await this.#run(function* (deadline): Task<Buffer> {
      const by = yield* findKey(group, wrapping, CKR.wrappingKeyHandleInvalid, 'C_WrapKey', deadline);
      checkClass('C_WrapKey', by, [CKO.secretKey, CKO.publicKey], CKR.wrappingKeyTypeInconsistent);
      const of = yield* findKey(group, wrapped, CKR.keyHandleInvalid, 'C_WrapKey', deadline);
      checkClass('C_WrapKey', of, [CKO.secretKey, CKO.privateKey], CKR.keyNotWrappable);
      return yield* runCall(group, wrapKey(encoded, by, of), deadline);
    }, options);
  }

  /**
   * C_SetAttributeValue, section 5.7, on every member. A new label or id changes no handle. The object that was
   * given stays the snapshot that it was; this gives the new one.
   */
  async setAttributes(object: ObjectInput, template: Template, options?: CallOptions): Promise<TokenObject> {
    const attributes = copyOfTemplate('template', template);
    const handle = handleOf('object', object);
    const { group } = this.#open;
    return await this.#run(function* (deadline): Task<TokenObject> {
      const found = yield* findKey(group, handle, CKR.objectHandleInvalid, 'C_SetAttributeValue', deadline);
      yield* changeAttributes(group, found, attributes, deadline);
      return new TokenObject(found);
    }, options);
  }

  /** C_DestroyObject, section 5.7, on every member; those that are away do it when they return. */
  async destroyObject(object: ObjectInput, options?: CallOptions): Promise<void> {
    const handle = handleOf('object', object);
    const { group } = this.#open;
    await this.#run(function* (deadline): Task<void> {
      const found = yield* findKey(group, handle, CKR.objectHandleInvalid, 'C_DestroyObject', deadline);
      yield* destroyObject(group, found, deadline);
    }, options);
  }

  /** Finishes what is running, ends the hosts and forgets the PIN. Calls made afterwards are refused. */
  async close(): Promise<void> {
    await this.#open.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #create(make: () => CreationRequest, options: CallOptions | undefined): Promise<TokenObject> {
    const { group } = this.#open;
    const [made] = await this.#run((deadline) => createObjects(group, make(), deadline), options);
    return tokenObject(made);
  }

  async #createFrom(
    functionName: string,
    handle: number,
    code: number,
    make: (source: VirtualObject) => CreationRequest,
    options: CallOptions | undefined,
  ): Promise<TokenObject> {
    const { group } = this.#open;
    const [made] = await this.#run(function* (deadline): Task<readonly VirtualObject[]> {
      const source = yield* findKey(group, handle, code, functionName, deadline);
      return yield* createObjects(group, make(source), deadline);
    }, options);
    return tokenObject(made);
  }

  // What follows is not async: one promise for a call, and what is thrown before it is made rejects that of the method.
  #perform<T>(
    functionName: string,
    mechanism: MechanismInput,
    key: ObjectInput,
    make: (mechanism: Mechanism, object: VirtualObject) => Operation<T>,
    options: CallOptions | undefined,
  ): Promise<T> {
    const encoded = encodeMechanism('mechanism', mechanism);
    const handle = handleOf('key', key);
    return this.#run((deadline) => {
      const { group } = this.#open;
      const known = visibleObject(group, handle);
      if (known !== undefined) return runCall(group, make(encoded, known), deadline);
      return this.#onObject(functionName, handle, (object) => make(encoded, object), deadline);
    }, options);
  }

  *#read(handle: number, types: readonly number[], deadline: number): Task<readonly ReadAttribute[]> {
    const { group } = this.#open;
    const object = yield* findKey(group, handle, CKR.objectHandleInvalid, 'C_GetAttributeValue', deadline);
    return yield* readObject(group, object, types, deadline);
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

  #run<T>(calling: Calling<T>, options: CallOptions = NO_OPTIONS): Promise<T> {
    const deadline = this.#open.now() + budgetOf(options, this.#open.group.policy.deadline);
    checkOpen(this.#open);
    return this.#open.run(calling(deadline), options.signal);
  }
}
