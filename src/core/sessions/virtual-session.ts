import type { Attribute } from '../../spec/attribute.js';
import { CKF, CKR } from '../../spec/codes.js';
import type { SecretRef } from '../../spec/job.js';
import type { Mechanism } from '../../spec/mechanism.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { findObjects } from '../call/find.js';
import { findKey } from '../call/lookup.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { CreationRequest } from '../jobs/creation-request.js';
import type { DataResult } from '../jobs/data-operation.js';
import { type CipherKind, type DataKind, functionsOf } from '../jobs/operation-kind.js';
import type { VirtualObject } from '../objects/object.js';
import { changeAttributes } from '../replication/attribute-change.js';
import { createObjects } from '../replication/creation.js';
import { destroyObject, destroySessionObject } from '../replication/destruction.js';
import { type Active, ActiveOperations } from './active-operations.js';
import { BegunOperation, type Room } from './begun-operation.js';
import type { CallerContexts } from './caller-context.js';
import { checkInit } from './init-check.js';

/** States of a session (CKS_*, PKCS#11 2.40, section 2.6.1). */
const states = {
  readOnly: { public: 0, user: 1 },
  readWrite: { public: 2, user: 3 },
} as const;

/** Slot of a session, as the session sees the slot; virtual-slot.ts implements it. */
export interface SlotOfSession {
  readonly id: number;
  readonly group: Group;
  readonly callerContexts: CallerContexts;
  /** Member whose own slot this is; undefined for the slot of the whole group. */
  readonly only?: Member | undefined;
  /** Tells whether a PIN is the one that the members are logged in with. */
  isPin(pin: SecretRef): boolean;
  /** Removes a destroyed object from all sessions of the slot. */
  forget(object: VirtualObject): void;
}

/**
 * Session of an application on the virtual slot; it takes no session of any member. States and operations are
 * PKCS#11's. If several caller contexts of an application use the session at once, each has its own operation.
 */
export class VirtualSession {
  /** Session objects that were made on this session; they live as long as the session. */
  readonly objects: Set<VirtualObject> = new Set<VirtualObject>();
  readonly #active: ActiveOperations;
  isClosed: boolean = false;

  constructor(
    readonly slot: SlotOfSession,
    readonly handle: number,
    readonly flags: number,
  ) {
    this.#active = new ActiveOperations(slot.callerContexts);
  }

  get isReadOnly(): boolean {
    return (this.flags & CKF.rwSession) === 0;
  }

  /** State of the session (CKS_*, section 2.6.1). */
  get state(): number {
    const { public: open, user } = this.isReadOnly ? states.readOnly : states.readWrite;
    return this.slot.group.isLoggedIn ? user : open;
  }

  /** Begins an operation: C_EncryptInit, C_SignInit and the other Inits. */
  *begin(kind: DataKind, mechanism: Mechanism, handle: number | undefined, deadline: number): Task<void> {
    const { init } = functionsOf[kind];
    this.#active.checkFree(init, kind);
    const { group } = this.slot;
    const key = handle === undefined ? undefined : yield* findKey(group, handle, CKR.keyHandleInvalid, init, deadline);
    const beginning = { kind, mechanism, key, only: this.slot.only };
    yield* checkInit(group, beginning, deadline);
    this.#add({ kind, operation: new BegunOperation(group, beginning), search: undefined, isBusy: false });
  }

  /** Runs an operation with all data at once; the operation ends, unless the output has too little room. */
  *single(
    kind: DataKind,
    data: Uint8Array,
    signature: Uint8Array | undefined,
    room: Room,
    deadline: number,
  ): Task<DataResult> {
    const active = this.#active.take(kind, functionsOf[kind].single);
    return yield* this.#active.runLast(active, active.operation.single(data, signature, room, deadline));
  }

  *update(kind: DataKind, data: Uint8Array, room: Room, deadline: number): Task<Buffer> {
    const active = this.#active.find(kind, functionsOf[kind].update ?? '');
    return yield* this.#active.runPart(active, active.operation.update(data, room, deadline));
  }

  /**
   * Runs a dual-function call (section 5.12): a cipher's Update, then the other operation's Update with the plaintext.
   */
  *updateBoth(
    cipher: CipherKind,
    other: DataKind,
    functionName: string,
    data: Uint8Array,
    room: Room,
    deadline: number,
  ): Task<Buffer> {
    // Both operations are looked up now: after a wait, another caller context may be running.
    const [first, second] = [this.#active.find(cipher, functionName), this.#active.find(other, functionName)];
    const output = yield* this.#active.runPart(first, first.operation.update(data, room, deadline));
    const plain = cipher === 'encrypt' ? data : output;
    yield* this.#active.runPart(second, second.operation.update(plain, 0, deadline));
    return output;
  }

  *digestKey(handle: number, deadline: number): Task<void> {
    const active = this.#active.find('digest', 'C_DigestKey');
    const key = yield* findKey(this.slot.group, handle, CKR.keyHandleInvalid, 'C_DigestKey', deadline);
    active.operation.digestKey(key);
  }

  *final(kind: DataKind, signature: Uint8Array | undefined, room: Room, deadline: number): Task<DataResult> {
    const active = this.#active.take(kind, functionsOf[kind].final ?? '');
    return yield* this.#active.runLast(active, active.operation.final(signature, room, deadline));
  }

  /** Throws unless an operation of the kind is active; for calls that only ask for a length. */
  checkBegun(kind: DataKind, functionName: string): void {
    this.#active.find(kind, functionName);
  }

  /** Begins a search (C_FindObjectsInit, section 5.7); later changes of objects do not change its result. */
  *beginSearch(template: readonly Attribute[], deadline: number): Task<void> {
    this.#active.checkFree('C_FindObjectsInit', 'search');
    const found = yield* findObjects(this.slot.group, template, deadline, this.slot.only);
    const handles = found.map(({ handle }) => handle);
    this.#add({ kind: 'search', operation: undefined, search: { handles, at: 0 }, isBusy: false });
  }

  /** Returns the next handles of the search (C_FindObjects), at most `most`. */
  nextFound(most: number): readonly number[] {
    if (most === 0) throw new TokenError(CKR.argumentsBad, 'C_FindObjects', 'the maximum number of handles is 0');
    const { search } = this.#active.select('search', 'C_FindObjects');
    if (search === undefined) return [];
    const next = search.handles.slice(search.at, search.at + most);
    search.at += next.length;
    return next;
  }

  /** Ends the search (C_FindObjectsFinal). */
  endSearch(): void {
    this.#active.remove(this.#active.select('search', 'C_FindObjectsFinal'));
  }

  /** Makes objects; session objects belong to this session. */
  *create(creation: CreationRequest, deadline: number): Task<readonly VirtualObject[]> {
    this.#checkWritable(creation.function);
    if (this.isReadOnly && creation.requests.some(({ token }) => token)) throw this.#readOnly(creation.function);
    const objects = yield* createObjects(this.slot.group, creation, deadline);
    for (const object of objects) if (object.session !== undefined) this.objects.add(object);
    // If the session was closed meanwhile, close() has not seen the new objects.
    if (this.isClosed) this.#removeObjects([...this.objects]);
    return objects;
  }

  *setAttributes(handle: number, changes: readonly Attribute[], deadline: number): Task<void> {
    const { group } = this.slot;
    const name = 'C_SetAttributeValue';
    this.#checkWritable(name);
    const object = yield* findKey(group, handle, CKR.objectHandleInvalid, name, deadline);
    if (this.isReadOnly && object.description.token) throw this.#readOnly(name);
    group.initChecks.forget(object);
    yield* changeAttributes(group, object, changes, deadline);
  }

  *destroy(handle: number, deadline: number): Task<void> {
    const { group } = this.slot;
    const name = 'C_DestroyObject';
    this.#checkWritable(name);
    const object = yield* findKey(group, handle, CKR.objectHandleInvalid, name, deadline);
    if (this.isReadOnly && object.description.token) throw this.#readOnly(name);
    yield* destroyObject(group, object, deadline);
    this.slot.forget(object);
  }

  /** Ends all operations; starts the destruction of the session objects on all members and does not wait for it. */
  close(): void {
    this.isClosed = true;
    this.endOperations();
    this.#removeObjects([...this.objects]);
  }

  endOperations(): void {
    this.#active.endAll();
  }

  /** Destroys the private session objects, since a logout ends them. */
  removePrivateObjects(): void {
    this.#removeObjects([...this.objects].filter(({ description }) => description.private));
  }

  /** True if an operation waits for a login with CKU_CONTEXT_SPECIFIC. */
  get needsLogin(): boolean {
    return this.#active.needingLogin !== undefined;
  }

  /**
   * Takes the PIN of a login with CKU_CONTEXT_SPECIFIC for the operation that needs it; returns true if the PIN is
   * right.
   */
  authenticate(pin: SecretRef): boolean {
    const { needingLogin } = this.#active;
    if (needingLogin === undefined || !this.slot.isPin(pin)) return false;
    needingLogin.isAuthenticated = true;
    return true;
  }

  #removeObjects(objects: readonly VirtualObject[]): void {
    const { group } = this.slot;
    for (const object of objects) {
      this.objects.delete(object);
      // The application no longer sees the object; the members destroy it later.
      group.objects.remove(object);
      group.keepAlive(group.port.start(destroySessionObject(group, object)));
    }
  }

  /** Throws on a member's own slot: objects are changed on all members, through the group's slot. */
  #checkWritable(functionName: string): void {
    if (this.slot.only === undefined) return;
    const text = "use the group's virtual slot to make or change objects";
    throw new TokenError(CKR.tokenWriteProtected, functionName, text);
  }

  #readOnly(functionName: string): TokenError {
    return new TokenError(
      CKR.sessionReadOnly,
      functionName,
      'making or changing token objects needs a read/write session',
    );
  }

  #add(begun: Omit<Active, 'context'>): void {
    if (this.isClosed) throw new TokenError(CKR.sessionHandleInvalid, '', 'the session was closed during the call');
    this.#active.add(begun);
  }
}
