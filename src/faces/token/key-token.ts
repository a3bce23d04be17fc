import type { Task } from '../../core/base/task.js';
import type { Outcome } from '../../core/group/outcomes.js';
import { type CreationRequest, requestGenerate, requestGeneratePair } from '../../core/jobs/creation-request.js';
import type { VirtualObject } from '../../core/objects/object.js';
import { createObjects } from '../../core/replication/creation.js';
import { ensureKey } from '../../core/replication/ensured-key.js';
import { outcomeOf } from '../../core/status/outcome.js';
import type { OpenGroup } from '../../runtime/groups/open-group.js';
import { InputError } from '../../spec/input.js';
import { encodeMechanism, type MechanismInput } from '../../spec/mechanism.js';
import type { Template } from '../../spec/template.js';
import { AdministeredToken } from './administration.js';
import { type CallOptions, copyOfTemplate, runWithin, tokenObject } from './input.js';
import type { TokenObject } from './object.js';

/** Key pair that was made or found. */
interface KeyPair {
  publicKey: TokenObject;
  privateKey: TokenObject;
}

/** Returns a template with the label, and as a token object. */
function labelled(label: unknown, template: Template): Template {
  if (typeof label !== 'string' || label === '')
    throw new InputError('label', 'a text of at least one character', label);
  return { ...template, label, token: true } as Template;
}

/** Checks the input of a key to make; the returned function makes the request within the call. */
function keyRequest(mechanism: MechanismInput, template: Template): () => CreationRequest {
  const encoded = encodeMechanism('mechanism', mechanism);
  const attributes = copyOfTemplate('template', template);
  return () => requestGenerate(encoded, attributes);
}

/** Checks the input of a key pair to make; the returned function makes the request within the call. */
function pairRequest(
  mechanism: MechanismInput,
  publicTemplate: Template,
  privateTemplate: Template,
): () => CreationRequest {
  const encoded = encodeMechanism('mechanism', mechanism);
  const ofPublic = copyOfTemplate('publicTemplate', publicTemplate);
  const ofPrivate = copyOfTemplate('privateTemplate', privateTemplate);
  return () => requestGeneratePair(encoded, ofPublic, ofPrivate);
}

function pairOf([publicKey, privateKey]: readonly VirtualObject[]): KeyPair {
  return { publicKey: tokenObject(publicKey), privateKey: tokenObject(privateKey) };
}

/** Calls that make keys, and the outcome of changes. */
export class KeyToken extends AdministeredToken {
  readonly #open: OpenGroup;

  protected constructor(open: OpenGroup) {
    super(open);
    this.#open = open;
  }

  /**
   * Generates a secret key. C_GenerateKey, section 5.13. With `token: true` all serving members have the key when the
   * call resolves; otherwise the key is a session object, which lives until `close()`.
   */
  async generateKey(mechanism: MechanismInput, template: Template, options?: CallOptions): Promise<TokenObject> {
    const request = keyRequest(mechanism, template);
    const { group } = this.#open;
    const make = (deadline: number): Task<readonly VirtualObject[]> => createObjects(group, request(), deadline);
    return tokenObject((await runWithin(this.#open, make, options))[0]);
  }

  /**
   * Finds the secret key of a label, or generates it if there is none. Of all processes of this machine that call this
   * at once, one makes the key, and the others find it: each resolves with the same key. The template states no label.
   *
   * Rejects with CKR_TEMPLATE_INCOMPLETE if several keys of that type have the label, and as `generateKey` does.
   */
  async ensureKey(
    label: string,
    mechanism: MechanismInput,
    template: Template,
    options?: CallOptions,
  ): Promise<TokenObject> {
    const request = keyRequest(mechanism, labelled(label, template));
    const { group } = this.#open;
    const { objects } = await runWithin(this.#open, (deadline) => ensureKey(group, request(), deadline), options);
    return tokenObject(objects[0]);
  }

  /** Finds the key pair of a label, or generates it if there is none, as `ensureKey` does for a secret key. */
  async ensureKeyPair(
    label: string,
    mechanism: MechanismInput,
    publicTemplate: Template,
    privateTemplate: Template,
    options?: CallOptions,
  ): Promise<KeyPair> {
    const request = pairRequest(mechanism, labelled(label, publicTemplate), labelled(label, privateTemplate));
    const { group } = this.#open;
    const { objects } = await runWithin(this.#open, (deadline) => ensureKey(group, request(), deadline), options);
    return pairOf(objects);
  }

  /**
   * Tells what became of a change whose outcome was unknown, by the `operation` of its `UnknownOutcomeError`: also of a
   * change of another process. `unknown` while the change is under way, or if no record tells of it any more.
   */
  async outcomeOf(operation: string, options?: CallOptions): Promise<Outcome> {
    if (typeof operation !== 'string' || operation === '')
      throw new InputError('operation', 'the operation of an UnknownOutcomeError', operation);
    const { group } = this.#open;
    return await runWithin(this.#open, (deadline) => outcomeOf(group, operation, deadline), options);
  }

  /** Generates a key pair. C_GenerateKeyPair, section 5.13. */
  async generateKeyPair(
    mechanism: MechanismInput,
    publicTemplate: Template,
    privateTemplate: Template,
    options?: CallOptions,
  ): Promise<KeyPair> {
    const request = pairRequest(mechanism, publicTemplate, privateTemplate);
    const { group } = this.#open;
    return pairOf(await runWithin(this.#open, (deadline) => createObjects(group, request(), deadline), options));
  }
}
