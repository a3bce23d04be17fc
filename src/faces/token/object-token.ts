import { TokenError } from '../../core/base/error.js';
import type { Task } from '../../core/base/task.js';
import { runCall } from '../../core/call/call.js';
import { findObjects } from '../../core/call/find.js';
import { checkClass, findKey } from '../../core/call/lookup.js';
import { readObject } from '../../core/call/reading.js';
import {
  type CreationRequest,
  requestCopy,
  requestCreate,
  requestDerive,
  requestUnwrap,
} from '../../core/jobs/creation-request.js';
import { wrapKey } from '../../core/jobs/operation.js';
import type { VirtualObject } from '../../core/objects/object.js';
import { changeAttributes } from '../../core/replication/attribute-change.js';
import { createObjects } from '../../core/replication/creation.js';
import { destroyObject } from '../../core/replication/destruction.js';
import type { OpenGroup } from '../../runtime/groups/open-group.js';
import { type AttributeValue, attributeOf, decodeAttribute } from '../../spec/attribute.js';
import type { ReadAttribute } from '../../spec/calls.js';
import { CKO, CKR } from '../../spec/codes.js';
import { InputError } from '../../spec/input.js';
import { encodeMechanism, type MechanismInput } from '../../spec/mechanism.js';
import { encodeTemplate, type Template } from '../../spec/template.js';
import { type CallOptions, copyOf, copyOfTemplate, runWithin, tokenObject } from './input.js';
import { KeyToken } from './key-token.js';
import { handleOf, type ObjectInput, TokenObject } from './object.js';

/** Calls on a token's objects: finding, reading, creating, changing and destroying them (sections 5.7 and 5.13). */
export class ObjectToken extends KeyToken {
  readonly #open: OpenGroup;

  protected constructor(open: OpenGroup) {
    super(open);
    this.#open = open;
  }

  /**
   * Finds the objects that match the template on any member; all objects without a template. C_FindObjects, section
   * 5.7.
   */
  async find(template?: Template, options?: CallOptions): Promise<TokenObject[]> {
    const attributes = encodeTemplate('template', template);
    const { group } = this.#open;
    const found = await runWithin(this.#open, (deadline) => findObjects(group, attributes, deadline), options);
    return found.map((object) => new TokenObject(object));
  }

  /**
   * Finds the only object that matches the template. Rejects with CKR_OBJECT_HANDLE_INVALID if no object matches, with
   * CKR_TEMPLATE_INCOMPLETE if several match.
   */
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

  /**
   * Reads attributes, named as in graphene (`label`, `keyType`, `modulus`) or by CKA numbers. Resolves with an object
   * keyed by these names. C_GetAttributeValue, section 5.7. Rejects with CKR_ATTRIBUTE_SENSITIVE or
   * CKR_ATTRIBUTE_TYPE_INVALID, which name the attribute.
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
    const read = await runWithin(this.#open, (deadline) => this.#read(handle, types, deadline), options);
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

  /** Creates a key from its value, a certificate or a data object. C_CreateObject, section 5.7. */
  async createObject(template: Template, options?: CallOptions): Promise<TokenObject> {
    const attributes = copyOfTemplate('template', template);
    return await this.#create(() => requestCreate(attributes), options);
  }

  /** Copies an object; the template holds the attributes that differ in the copy. C_CopyObject, section 5.7. */
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
   * Unwraps a key. C_UnwrapKey, section 5.13. The template must have class and key type.
   * CKR_UNWRAPPING_KEY_HANDLE_INVALID and CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT concern `key`.
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

  /** Derives a key. C_DeriveKey, section 5.13. The template must have class and key type. */
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

  /** Wraps `key` with `wrappingKey`. C_WrapKey, section 5.13. */
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
    return await runWithin(
      this.#open,
      function* (deadline): Task<Buffer> {
        const by = yield* findKey(group, wrapping, CKR.wrappingKeyHandleInvalid, 'C_WrapKey', deadline);
        checkClass('C_WrapKey', by, [CKO.secretKey, CKO.publicKey], CKR.wrappingKeyTypeInconsistent);
        const of = yield* findKey(group, wrapped, CKR.keyHandleInvalid, 'C_WrapKey', deadline);
        checkClass('C_WrapKey', of, [CKO.secretKey, CKO.privateKey], CKR.keyNotWrappable);
        return yield* runCall(group, wrapKey(encoded, by, of), deadline);
      },
      options,
    );
  }

  /**
   * Sets attributes on every member. C_SetAttributeValue, section 5.7. A new label or id changes no handle. `object`
   * stays an unchanged snapshot; the call resolves with a new one.
   */
  async setAttributes(object: ObjectInput, template: Template, options?: CallOptions): Promise<TokenObject> {
    const attributes = copyOfTemplate('template', template);
    const handle = handleOf('object', object);
    const { group } = this.#open;
    return await runWithin(
      this.#open,
      function* (deadline): Task<TokenObject> {
        const found = yield* findKey(group, handle, CKR.objectHandleInvalid, 'C_SetAttributeValue', deadline);
        yield* changeAttributes(group, found, attributes, deadline);
        return new TokenObject(found);
      },
      options,
    );
  }

  /**
   * Destroys an object on every member; members that are away destroy it when they return. C_DestroyObject, section
   * 5.7.
   */
  async destroyObject(object: ObjectInput, options?: CallOptions): Promise<void> {
    const handle = handleOf('object', object);
    const { group } = this.#open;
    await runWithin(
      this.#open,
      function* (deadline): Task<void> {
        const found = yield* findKey(group, handle, CKR.objectHandleInvalid, 'C_DestroyObject', deadline);
        yield* destroyObject(group, found, deadline);
      },
      options,
    );
  }

  async #create(make: () => CreationRequest, options: CallOptions | undefined): Promise<TokenObject> {
    const { group } = this.#open;
    const [made] = await runWithin(this.#open, (deadline) => createObjects(group, make(), deadline), options);
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
    const [made] = await runWithin(
      this.#open,
      function* (deadline): Task<readonly VirtualObject[]> {
        const source = yield* findKey(group, handle, code, functionName, deadline);
        return yield* createObjects(group, make(source), deadline);
      },
      options,
    );
    return tokenObject(made);
  }

  *#read(handle: number, types: readonly number[], deadline: number): Task<readonly ReadAttribute[]> {
    const { group } = this.#open;
    const object = yield* findKey(group, handle, CKR.objectHandleInvalid, 'C_GetAttributeValue', deadline);
    return yield* readObject(group, object, types, deadline);
  }
}
