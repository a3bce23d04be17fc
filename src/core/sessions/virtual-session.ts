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
import {
  type CipherKind,
  type DataKind,
  functionsOf,
  mayGoTogether,
  type OperationKind,
} from '../jobs/operation-kind.js';
import type { VirtualObject } from '../objects/object.js';
import { changeAttributes } from '../replication/attribute-change.js';
import { createObjects } from '../replication/creation.js';
import { destroyObject, letGo } from '../replication/destruction.js';
import { BegunOperation, type Room } from './begun-operation.js';
import type { CallerContext, CallerContexts } from './caller-context.js';
import { checkInit } from './init-check.js';

/** States of a session, PKCS#11 2.40, section 2.6.1. */
const states = {
  readOnly: { public: 0, user: 1 },
  readWrite: { public: 2, user: 3 },
} as const;

/** Operations that one session has under way for different flows of the application. */
const MOST_OPERATIONS = 4096;

/** The slot of a session, as the session sees it; virtual-slot.ts implements it. */
export interface SlotOfSession {
  readonly id: number;
  readonly group: Group;
  readonly flows: CallerContexts;
  /** The member whose own slot it is; undefined for the slot of the whole group. */
  readonly only?: Member | undefined;
  isPin(pin: SecretRef): boolean;
  /** Called when an object was destroyed: no session of the slot keeps it. */
  forget(object: VirtualObject): void;
}

/** What a search found, and how much of it was given. */
interface ActiveSearch {
  readonly handles: readonly number[];
  at: number;
}

/** Something that an Init has begun, and whose it is. */
interface Active {
  readonly kind: OperationKind;
  readonly flow: CallerContext;
  readonly operation: BegunOperation | undefined;
  readonly search: ActiveSearch | undefined;
  /** A call on it is under way: another one would be at the same place in its data. */
  isBusy: boolean;
}

type ActiveOperation = Active & { readonly operation: BegunOperation };

/**
 * A session of an application on the virtual slot: it costs no session of any member. It has the states and operations
 * of PKCS#11, and one thing more: where several flows of an application use it at once, each has its own operation.
 */
export class VirtualSession {
  /** Session objects that were made on it: they live as long as it does. */
  readonly objects: Set<VirtualObject> = new Set<VirtualObject>();
  #active: Active[] = [];
  /** How often all that was under way has been ended. */
  #ended = 0;
  isClosed: boolean = false;

  constructor(
    readonly slot: SlotOfSession,
    readonly handle: number,
    readonly flags: number,
  ) {}

  get isReadOnly(): boolean {
    return (this.flags & CKF.rwSession) === 0;
  }

  /** CKS_*, section 2.6.1. */
  get state(): number {
    const { public: open, user } = this.isReadOnly ? states.readOnly : states.readWrite;
    return this.slot.group.isLoggedIn ? user : open;
  }

  /** C_EncryptInit, C_SignInit and the others. */
  *begin(kind: DataKind, mechanism: Mechanism, handle: number | undefined, deadline: number): Task<void> {
    const { init } = functionsOf[kind];
    this.#checkFree(init, kind);
    const { group } = this.slot;
    const key = handle === undefined ? undefined : yield* findKey(group, handle, CKR.keyHandleInvalid, init, deadline);
    const beginning = { kind, mechanism, key, only: this.slot.only };
    yield* checkInit(group, beginning, deadline);
    this.#add({ kind, operation: new BegunOperation(group, beginning), search: undefined, isBusy: false });
  }

  /** All data at once. The operation is over with it, unless the output has no room. */
  *single(
    kind: DataKind,
    data: Uint8Array,
    signature: Uint8Array | undefined,
    room: Room,
    deadline: number,
  ): Task<DataResult> {
    const active = this.#take(kind, functionsOf[kind].single);
    return yield* this.#ending(active, active.operation.single(data, signature, room, deadline));
  }

  *update(kind: DataKind, data: Uint8Array, room: Room, deadline: number): Task<Buffer> {
    const active = this.#find(kind, functionsOf[kind].update ?? '');
    return yield* this.#going(active, active.operation.update(data, room, deadline));
  }

  /** A dual-function call (section 5.12): a cipher's Update, then that of the other operation with the plaintext. */
  *updateBoth(
    cipher: CipherKind,
    other: DataKind,
    functionName: string,
    data: Uint8Array,
    room: Room,
    deadline: number,
  ): Task<Buffer> {
    // Both now: later it may be another flow that is running.
    const [first, second] = [this.#find(cipher, functionName), this.#find(other, functionName)];
    const made = yield* this.#going(first, first.operation.update(data, room, deadline));
    const plain = cipher === 'encrypt' ? data : made;
    yield* this.#going(second, second.operation.update(plain, 0, deadline));
    return made;
  }

  *digestKey(handle: number, deadline: number): Task<void> {
    const active = this.#find('digest', 'C_DigestKey');
    const key = yield* findKey(this.slot.group, handle, CKR.keyHandleInvalid, 'C_DigestKey', deadline);
    active.operation.digestKey(key);
  }

  *final(kind: DataKind, signature: Uint8Array | undefined, room: Room, deadline: number): Task<DataResult> {
    const active = this.#take(kind, functionsOf[kind].final ?? '');
    return yield* this.#ending(active, active.operation.final(signature, room, deadline));
  }

  /** Throws where there is no such operation: of a call that only asks for a length. */
  checkBegun(kind: DataKind, functionName: string): void {
    this.#find(kind, functionName);
  }

  /** The operation that asks for the PIN of its own; undefined where none does. */
  get asking(): BegunOperation | undefined {
    const context = this.slot.flows.current();
    const asking = this.#active.filter(({ operation }) => operation?.needsLogin === true);
    return (asking.find((active) => active.flow === context) ?? (asking.length === 1 ? asking[0] : undefined))
      ?.operation;
  }

  /** C_FindObjectsInit, section 5.7: what it finds is what there is now. */
  *beginSearch(template: readonly Attribute[], deadline: number): Task<void> {
    this.#checkFree('C_FindObjectsInit', 'search');
    const found = yield* findObjects(this.slot.group, template, deadline, this.slot.only);
    const handles = found.map(({ handle }) => handle);
    this.#add({ kind: 'search', operation: undefined, search: { handles, at: 0 }, isBusy: false });
  }

  /** C_FindObjects: the next handles, at most so many. */
  nextFound(most: number): readonly number[] {
    if (most === 0) throw new TokenError(CKR.argumentsBad, 'C_FindObjects', 'no handles are asked for');
    const { search } = this.#select('search', 'C_FindObjects');
    if (search === undefined) return [];
    const next = search.handles.slice(search.at, search.at + most);
    search.at += next.length;
    return next;
  }

  endSearch(): void {
    this.#remove(this.#select('search', 'C_FindObjectsFinal'));
  }

  /** Makes objects; session objects are this session's. */
  *create(creation: CreationRequest, deadline: number): Task<readonly VirtualObject[]> {
    this.#checkWritable(creation.function);
    if (this.isReadOnly && creation.requests.some(({ token }) => token)) throw this.#readOnly(creation.function);
    const objects = yield* createObjects(this.slot.group, creation, deadline);
    for (const object of objects) if (object.session !== undefined) this.objects.add(object);
    // Closed meanwhile: nobody would take them away.
    if (this.isClosed) this.#letGoAll();
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

  /** Ends what is under way; its session objects go on all members, beside what goes on. */
  close(): void {
    this.isClosed = true;
    this.endOperations();
    this.#letGoAll();
  }

  endOperations(): void {
    this.#ended += 1;
    for (const { operation, flow } of this.#active) {
      operation?.end();
      flow.pending -= 1;
    }
    this.#active = [];
  }

  /** After a logout there are no private objects. */
  letGoPrivate(): void {
    this.#letGo([...this.objects].filter(({ description }) => description.private));
  }

  /** Whether the PIN that is given for one operation may be. */
  authenticate(pin: SecretRef): boolean {
    const { asking } = this;
    if (asking === undefined || !this.slot.isPin(pin)) return false;
    asking.isAuthenticated = true;
    return true;
  }

  #letGoAll(): void {
    this.#letGo([...this.objects]);
  }

  #letGo(objects: readonly VirtualObject[]): void {
    const { group } = this.slot;
    for (const object of objects) {
      this.objects.delete(object);
      // Gone for the application at once, whatever the members take.
      group.objects.remove(object);
      group.keepAlive(group.port.start(letGo(group, object)));
    }
  }

  /** A member's own slot is there to look and to use: what is changed is changed on all members. */
  #checkWritable(functionName: string): void {
    if (this.slot.only === undefined) return;
    const text = "objects are made and changed on the group's virtual slot";
    throw new TokenError(CKR.tokenWriteProtected, functionName, text);
  }

  #readOnly(functionName: string): TokenError {
    return new TokenError(
      CKR.sessionReadOnly,
      functionName,
      'token objects are made and changed on read/write sessions',
    );
  }

  #checkFree(functionName: string, kind: OperationKind): void {
    const context = this.slot.flows.current();
    const own = context === undefined ? [] : this.#active.filter((active) => active.flow === context);
    const isFree = own.every((active) => own.length === 1 && mayGoTogether(active.kind, kind));
    if (isFree && this.#active.length < MOST_OPERATIONS) return;
    const kinds = own.map((active) => active.kind).join(', ');
    throw new TokenError(CKR.operationActive, functionName, `${kinds === '' ? 'too much' : kinds} is under way`);
  }

  #add(begun: Omit<Active, 'flow'>): void {
    if (this.isClosed) throw new TokenError(CKR.sessionHandleInvalid, '', 'the session was closed meanwhile');
    const context = this.slot.flows.enter();
    context.pending += 1;
    this.#active.push({ ...begun, flow: context });
  }

  #remove(active: Active): void {
    if (!this.#active.includes(active)) return;
    this.#active = this.#active.filter((each) => each !== active);
    active.flow.pending -= 1;
  }

  /**
   * The only one of its kind that is under way, as PKCS#11 has it; of several, that of the flow which asks, and never
   * another one's (Rule 12).
   */
  #select(kind: OperationKind, functionName: string): Active {
    const candidates = this.#active.filter((active) => active.kind === kind);
    const [first] = candidates;
    if (first === undefined) throw new TokenError(CKR.operationNotInitialized, functionName, '');
    if (candidates.length === 1) return first;
    const context = this.slot.flows.current();
    const own = candidates.find((active) => active.flow === context);
    if (own !== undefined) return own;
    const text = `${candidates.length} of that kind are under way on the session, and none is known to be the caller's`;
    throw new TokenError(CKR.operationActive, functionName, text);
  }

  #find(kind: DataKind, functionName: string): ActiveOperation {
    const active = this.#select(kind, functionName);
    if (active.isBusy) throw new TokenError(CKR.operationActive, functionName, 'another call on it is under way');
    return active as ActiveOperation;
  }

  /** From here on it is the call's: another one may begin on the session. */
  #take(kind: DataKind, functionName: string): ActiveOperation {
    const active = this.#find(kind, functionName);
    this.#remove(active);
    return active;
  }

  *#ending<T>(active: ActiveOperation, task: Task<T>): Task<T> {
    const ended = this.#ended;
    let isOver = true;
    try {
      return yield* task;
    } catch (error) {
      if (isTooSmall(error) && ended === this.#ended) {
        isOver = false;
        active.flow.pending += 1;
        this.#active.push(active);
      }
      throw error;
    } finally {
      if (isOver) active.operation.end();
    }
  }

  *#going<T>(active: ActiveOperation, task: Task<T>): Task<T> {
    active.isBusy = true;
    try {
      return yield* task;
    } catch (error) {
      if (!isTooSmall(error)) {
        this.#remove(active);
        active.operation.end();
      }
      throw error;
    } finally {
      active.isBusy = false;
    }
  }
}

function isTooSmall(error: unknown): boolean {
  return error instanceof TokenError && error.code === CKR.bufferTooSmall;
}
