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

/** Room for the output of a call (bytes). */
export type Room = number;

/** Output for which the application had too little room, with its input. */
interface KeptOutput {
  /** Function that made the output. */
  readonly function: string;
  readonly input: Uint8Array;
  readonly result: DataResult;
}

/**
 * Operation that an Init has begun on a virtual session. Before the first data, members have only checked the Init.
 * Data of operations without output on the way is kept, and runs as one job at the end, on any member that can do it.
 */
export class BegunOperation {
  readonly kind: DataKind;
  readonly #group: Group;
  readonly #beginning: Beginning;
  /** True if the application has given the PIN, for a key that asks for it each time (CKA_ALWAYS_AUTHENTICATE). */
  isAuthenticated: boolean = false;
  #parts: Part[] = [];
  #size = 0;
  #stream: Stream | undefined;
  #hasParts = false;
  #kept: KeptOutput | undefined;

  constructor(group: Group, beginning: Beginning) {
    this.#group = group;
    this.kind = beginning.kind;
    this.#beginning = beginning;
  }

  /** True if the key asks for the PIN each time. */
  get needsLogin(): boolean {
    const isPrivate = this.kind === 'sign' || this.kind === 'decrypt' || this.kind === 'signRecover';
    return isPrivate && this.#beginning.key?.description.alwaysAuthenticate === true;
  }

  /** Runs the operation with all data at once; `signature` is given for a verification. */
  *single(data: Uint8Array, signature: Uint8Array | undefined, room: Room, deadline: number): Task<DataResult> {
    const { single } = functionsOf[this.kind];
    this.#checkLogin(single);
    if (this.#hasParts)
      throw new TokenError(CKR.operationNotInitialized, single, 'the operation was begun part by part');
    const kept = this.#kept;
    if (kept?.function === single && sameBytes(kept.input, data)) return this.#giveKept(kept, single, room);
    const operation = this.#authenticated(inOnePart(this.#beginning, data, signature));
    const result = yield* runCall(this.#group, operation, deadline);
    return this.#fit(result, data, single, room);
  }

  /** Adds data; returns the output of a cipher, and no bytes for other kinds. */
  *update(data: Uint8Array, room: Room, deadline: number): Task<Buffer> {
    const { update } = functionsOf[this.kind];
    if (update === undefined)
      throw new TokenError(CKR.operationNotInitialized, '', 'the operation takes all data at once');
    this.#checkLogin(update);
    if (!isCipher(this.kind)) {
      yield* this.#record(data, deadline);
      return NOTHING;
    }
    const kept = this.#takeKept();
    if (kept !== undefined) {
      if (kept.function === update && sameBytes(kept.input, data))
        return this.#fit(kept.result, data, update, room).output;
      this.#takeBack(kept);
    }
    this.#hasParts = true;
    this.#stream ??= this.#streamOf([]);
    const output = yield* this.#stream.update(data, deadline);
    return this.#fit({ code: 0, output }, data, update, room).output;
  }

  /** Adds a key to a digest (C_DigestKey, section 5.10). */
  digestKey(key: VirtualObject): void {
    if (this.#stream !== undefined)
      throw new TokenError(
        CKR.functionNotSupported,
        'C_DigestKey',
        'not possible after more data than policy.replayLimit',
      );
    this.#hasParts = true;
    this.#parts.push(key);
  }

  /** Ends the operation; `signature` is given for a verification. */
  *final(signature: Uint8Array | undefined, room: Room, deadline: number): Task<DataResult> {
    const { final } = functionsOf[this.kind];
    if (final === undefined)
      throw new TokenError(CKR.operationNotInitialized, '', 'the operation takes all data at once');
    this.#checkLogin(final);
    const kept = this.#takeKept();
    if (kept?.function === final) return this.#giveKept(kept, final, room);
    if (kept !== undefined) this.#takeBack(kept);
    this.#hasParts = true;
    const parts = this.#parts;
    const result = yield* this.#stream === undefined
      ? runCall(this.#group, this.#authenticated(inParts(this.#beginning, parts, signature)), deadline)
      : this.#stream.final(signature, deadline);
    return this.#fit(result, NOTHING, final, room);
  }

  /** Releases the held session and all kept data. */
  end(): void {
    this.#stream?.end();
    this.#parts = [];
    this.#kept = undefined;
  }

  /**
   * Keeps data of an operation without output on the way; beyond `policy.replayLimit` a held session takes the data.
   */
  *#record(data: Uint8Array, deadline: number): Task<void> {
    // A key that asks for the PIN is not checked: the check would need a login.
    if (!this.#hasParts && !this.needsLogin) yield* checkFirstUpdate(this.#group, this.#beginning, data, deadline);
    this.#hasParts = true;
    if (this.#stream !== undefined) {
      yield* this.#stream.update(data, deadline);
      return;
    }
    const { replayLimit } = this.#group.policy;
    if (this.#size + data.length <= replayLimit || this.#parts.some((part) => !(part instanceof Uint8Array))) {
      // A copy: the application may go on to use its buffer.
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
    // Each try with a wrong PIN brings the token closer to locking.
    if (member.login.contextRefusal !== undefined)
      throw refuse(member.login.contextRefusal, 'the PIN was refused before');
    if (member.login.isPinInDoubt) throw refuse(CKR.userNotLoggedIn, 'a change of the PIN is under way');
    return pin;
  };

  #checkLogin(functionName: string): void {
    if (this.needsLogin && !this.isAuthenticated)
      throw new TokenError(CKR.userNotLoggedIn, functionName, 'the key needs a login with CKU_CONTEXT_SPECIFIC');
  }

  #takeKept(): KeptOutput | undefined {
    const kept = this.#kept;
    this.#kept = undefined;
    return kept;
  }

  #giveKept(kept: KeptOutput, functionName: string, room: Room): DataResult {
    return this.#fit(kept.result, kept.input, functionName, room);
  }

  /** Returns a result if the output fits into the room; otherwise keeps it and throws CKR_BUFFER_TOO_SMALL. */
  #fit(result: DataResult, input: Uint8Array, functionName: string, room: Room): DataResult {
    this.#kept = undefined;
    if (result.output.length <= room) return result;
    this.#kept = { function: functionName, input: new Uint8Array(input), result };
    throw new TokenError(CKR.bufferTooSmall, functionName, `the output has ${result.output.length} bytes`);
  }

  /** Takes back a cipher's Update that found too little room: for PKCS#11 the call has not happened. */
  #takeBack({ function: name, result }: KeptOutput): void {
    if (name !== functionsOf[this.kind].update) return;
    if (this.#stream?.mayMove !== true) {
      const text = 'another call followed CKR_BUFFER_TOO_SMALL, and the Update cannot be undone';
      throw new TokenError(CKR.deviceRemoved, name, text);
    }
    this.#stream.takeBack(result.output);
  }
}
