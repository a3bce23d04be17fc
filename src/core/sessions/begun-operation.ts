import { CKR } from '../../spec/codes.js';
import { sameBytes } from '../base/bytes.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { runCall } from '../call/call.js';
import type { Group } from '../group/group.js';
import {
  authenticating,
  type Beginning,
  type DataResult,
  inOnePart,
  inParts,
  joinParts,
  type Part,
} from '../jobs/data-operation.js';
import type { Location, Operation } from '../jobs/operation.js';
import { type DataKind, functionsOf, isCipher } from '../jobs/operation-kind.js';
import type { VirtualObject } from '../objects/object.js';
import { checkFirstUpdate } from './init-check.js';
import { Stream } from './stream.js';

const NOTHING = Buffer.alloc(0);

/** How much room there is for a call's output (bytes). */
export type Room = number;

/** An output that the application had no room for, with what it was made of. */
interface Kept {
  /** The call that it is the output of. */
  readonly of: string;
  readonly input: Uint8Array;
  readonly result: DataResult;
}

/**
 * What an Init has begun on a virtual session. Until data comes nothing has happened on any member but the check of
 * the Init, and what needs no answer on the way is kept: it runs as one job at the end, wherever that can be.
 */
export class BegunOperation {
  readonly kind: DataKind;
  readonly #group: Group;
  readonly #beginning: Beginning;
  /** The key asks for the PIN each time (CKA_ALWAYS_AUTHENTICATE), and this time it was given. */
  isAuthenticated: boolean = false;
  #parts: Part[] = [];
  #size = 0;
  #stream: Stream | undefined;
  #hasParts = false;
  #kept: Kept | undefined;

  constructor(group: Group, beginning: Beginning) {
    this.#group = group;
    this.kind = beginning.kind;
    this.#beginning = beginning;
  }

  get needsLogin(): boolean {
    const isPrivate = this.kind === 'sign' || this.kind === 'decrypt' || this.kind === 'signRecover';
    return isPrivate && this.#beginning.key?.description.alwaysAuthenticate === true;
  }

  /** With all data at once; `signature` where that is verified. */
  *single(data: Uint8Array, signature: Uint8Array | undefined, room: Room, deadline: number): Task<DataResult> {
    const { single } = functionsOf[this.kind];
    this.#checkLogin(single);
    if (this.#hasParts) throw new TokenError(CKR.operationNotInitialized, single, 'it was begun part by part');
    const kept = this.#kept;
    if (kept?.of === single && sameBytes(kept.input, data)) return this.#giveKept(kept, single, room);
    const operation = this.#authenticated(inOnePart(this.#beginning, data, signature));
    const result = yield* runCall(this.#group, operation, deadline);
    return this.#fit(result, data, single, room);
  }

  /** The output of a cipher; nothing of the other kinds. */
  *update(data: Uint8Array, room: Room, deadline: number): Task<Buffer> {
    const { update } = functionsOf[this.kind];
    if (update === undefined) throw new TokenError(CKR.operationNotInitialized, '', 'it takes all data at once');
    this.#checkLogin(update);
    if (!isCipher(this.kind)) {
      yield* this.#record(data, deadline);
      return NOTHING;
    }
    const kept = this.#takeKept();
    if (kept !== undefined) {
      if (kept.of === update && sameBytes(kept.input, data)) return this.#fit(kept.result, data, update, room).output;
      this.#unread(kept);
    }
    this.#hasParts = true;
    this.#stream ??= this.#streamOf([]);
    const output = yield* this.#stream.update(data, deadline);
    return this.#fit({ code: 0, output }, data, update, room).output;
  }

  /** C_DigestKey, section 5.10. */
  digestKey(key: VirtualObject): void {
    if (this.#stream !== undefined)
      throw new TokenError(CKR.functionNotSupported, 'C_DigestKey', 'not after so much data as is no longer kept');
    this.#hasParts = true;
    this.#parts.push(key);
  }

  *final(signature: Uint8Array | undefined, room: Room, deadline: number): Task<DataResult> {
    const { final } = functionsOf[this.kind];
    if (final === undefined) throw new TokenError(CKR.operationNotInitialized, '', 'it takes all data at once');
    this.#checkLogin(final);
    const kept = this.#takeKept();
    if (kept?.of === final) return this.#giveKept(kept, final, room);
    if (kept !== undefined) this.#unread(kept);
    this.#hasParts = true;
    const parts = this.#parts;
    const result = yield* this.#stream === undefined
      ? runCall(this.#group, this.#authenticated(inParts(this.#beginning, parts, signature)), deadline)
      : this.#stream.final(signature, deadline);
    return this.#fit(result, NOTHING, final, room);
  }

  /** Gives back what it holds. */
  end(): void {
    this.#stream?.end();
    this.#parts = [];
    this.#kept = undefined;
  }

  *#record(data: Uint8Array, deadline: number): Task<void> {
    // With a key that asks for the PIN it would take a login.
    if (!this.#hasParts && !this.needsLogin) yield* checkFirstUpdate(this.#group, this.#beginning, data, deadline);
    this.#hasParts = true;
    if (this.#stream !== undefined) {
      yield* this.#stream.update(data, deadline);
      return;
    }
    const { replayLimit } = this.#group.policy;
    if (this.#size + data.length <= replayLimit || this.#parts.some((part) => !(part instanceof Uint8Array))) {
      // A copy: the application goes on to use its buffer.
      this.#parts.push(new Uint8Array(data));
      this.#size += data.length;
      return;
    }
    this.#stream = this.#streamOf(joinParts(this.#parts) as readonly Uint8Array[]);
    this.#parts = [];
    yield* this.#stream.update(data, deadline);
  }

  #streamOf(parts: readonly Uint8Array[]): Stream {
    return new Stream(this.#group, this.#beginning, parts, this.needsLogin ? this.#pinOf : undefined);
  }

  #authenticated<T>(operation: Operation<T>): Operation<T> {
    return this.needsLogin ? authenticating(operation, this.#pinOf) : operation;
  }

  readonly #pinOf = ({ member }: Location): { readonly length: number } => {
    const pin = member.login.pin ?? this.#group.pin;
    const refuse = (code: number, explanation: string): TokenError =>
      new TokenError(code, 'C_Login', explanation, [], member.name);
    if (pin === undefined) throw refuse(CKR.userNotLoggedIn, 'the PIN is not known');
    // Each try with a wrong one brings the token nearer to being locked.
    if (member.login.contextRefusal !== undefined)
      throw refuse(member.login.contextRefusal, 'the PIN was refused before');
    if (member.login.isPinInDoubt) throw refuse(CKR.userNotLoggedIn, 'the PIN is just being changed');
    return pin;
  };

  #checkLogin(functionName: string): void {
    if (this.needsLogin && !this.isAuthenticated)
      throw new TokenError(CKR.userNotLoggedIn, functionName, 'the key asks for a login with CKU_CONTEXT_SPECIFIC');
  }

  #takeKept(): Kept | undefined {
    const kept = this.#kept;
    this.#kept = undefined;
    return kept;
  }

  #giveKept(kept: Kept, functionName: string, room: Room): DataResult {
    return this.#fit(kept.result, kept.input, functionName, room);
  }

  #fit(result: DataResult, input: Uint8Array, functionName: string, room: Room): DataResult {
    this.#kept = undefined;
    if (result.output.length <= room) return result;
    this.#kept = { of: functionName, input: new Uint8Array(input), result };
    throw new TokenError(CKR.bufferTooSmall, functionName, `${result.output.length} bytes are needed`);
  }

  /** The standard's way: a call that found too little room has not happened. Of other kinds and calls nothing is undone. */
  #unread({ of, result }: Kept): void {
    if (of !== functionsOf[this.kind].update) return;
    if (this.#stream?.mayMove !== true) {
      const text = 'it goes on otherwise after CKR_BUFFER_TOO_SMALL, and what was done cannot be undone';
      throw new TokenError(CKR.deviceRemoved, of, text);
    }
    this.#stream.unread(result.output);
  }
}
