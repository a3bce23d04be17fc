import { CKR } from '../../spec/codes.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { type DataKind, mayGoTogether, type OperationKind } from '../jobs/operation-kind.js';
import type { BegunOperation } from './begun-operation.js';
import type { CallerContext, CallerContexts } from './caller-context.js';

/** Maximum number of operations that the caller contexts of an application have on one session. */
const MOST_OPERATIONS = 4096;

/** Result of a search; `at` is the index of the next handle. */
interface ActiveSearch {
  readonly handles: readonly number[];
  at: number;
}

/** Operation or search that an Init has begun, with the caller context that it belongs to. */
export interface Active {
  readonly kind: OperationKind;
  readonly context: CallerContext;
  readonly operation: BegunOperation | undefined;
  readonly search: ActiveSearch | undefined;
  /** True while a call on the operation is running: another call would be at the same place in the data. */
  isBusy: boolean;
}

type ActiveOperation = Active & { readonly operation: BegunOperation };

/** Active operations of a session: at most those of PKCS#11 for each caller context. */
export class ActiveOperations {
  readonly #contexts: CallerContexts;
  #active: Active[] = [];
  /** Number of times that all operations were ended. */
  #endings = 0;

  constructor(contexts: CallerContexts) {
    this.#contexts = contexts;
  }

  /** Operation that waits for a login with CKU_CONTEXT_SPECIFIC; undefined if there is none. */
  get needingLogin(): BegunOperation | undefined {
    const context = this.#contexts.current();
    const needing = this.#active.filter(({ operation }) => operation?.needsLogin === true);
    return (needing.find((active) => active.context === context) ?? (needing.length === 1 ? needing[0] : undefined))
      ?.operation;
  }

  /** Throws CKR_OPERATION_ACTIVE unless the running context may begin an operation of the kind. */
  checkFree(functionName: string, kind: OperationKind): void {
    const context = this.#contexts.current();
    const own = context === undefined ? [] : this.#active.filter((active) => active.context === context);
    const isFree = own.every((active) => own.length === 1 && mayGoTogether(active.kind, kind));
    if (isFree && this.#active.length < MOST_OPERATIONS) return;
    const kinds = own.map((active) => active.kind).join(', ');
    const explanation = kinds === '' ? 'the session has too many operations' : `active operations: ${kinds}`;
    throw new TokenError(CKR.operationActive, functionName, explanation);
  }

  /** Adds an operation that belongs to the running context. */
  add(begun: Omit<Active, 'context'>): void {
    const context = this.#contexts.enter();
    context.pending += 1;
    this.#active.push({ ...begun, context });
  }

  remove(active: Active): void {
    if (!this.#active.includes(active)) return;
    this.#active = this.#active.filter((each) => each !== active);
    active.context.pending -= 1;
  }

  /**
   * Returns the only operation of a kind; of several, that of the running context, never another context's (Rule 12).
   */
  select(kind: OperationKind, functionName: string): Active {
    const candidates = this.#active.filter((active) => active.kind === kind);
    const [first] = candidates;
    if (first === undefined) throw new TokenError(CKR.operationNotInitialized, functionName, '');
    if (candidates.length === 1) return first;
    const context = this.#contexts.current();
    const own = candidates.find((active) => active.context === context);
    if (own !== undefined) return own;
    const text = `the session has ${candidates.length} operations of that kind, and none is known to be the caller's`;
    throw new TokenError(CKR.operationActive, functionName, text);
  }

  /** Returns the operation of a kind as `select`; throws CKR_OPERATION_ACTIVE while another call on it is running. */
  find(kind: DataKind, functionName: string): ActiveOperation {
    const active = this.select(kind, functionName);
    if (active.isBusy)
      throw new TokenError(CKR.operationActive, functionName, 'another call on the operation is running');
    return active as ActiveOperation;
  }

  /** Takes an operation off the session for its last call: from now on another operation may begin. */
  take(kind: DataKind, functionName: string): ActiveOperation {
    const active = this.find(kind, functionName);
    this.remove(active);
    return active;
  }

  /** Runs the last call of an operation that was taken; the operation comes back if the output had too little room. */
  *runLast<T>(active: ActiveOperation, task: Task<T>): Task<T> {
    const endings = this.#endings;
    let isOver = true;
    try {
      return yield* task;
    } catch (error) {
      if (isTooSmall(error) && endings === this.#endings) {
        isOver = false;
        active.context.pending += 1;
        this.#active.push(active);
      }
      throw error;
    } finally {
      if (isOver) active.operation.end();
    }
  }

  /** Runs a call that does not end its operation; any failure except too little room ends the operation. */
  *runPart<T>(active: ActiveOperation, task: Task<T>): Task<T> {
    active.isBusy = true;
    try {
      return yield* task;
    } catch (error) {
      if (!isTooSmall(error)) {
        this.remove(active);
        active.operation.end();
      }
      throw error;
    } finally {
      active.isBusy = false;
    }
  }

  endAll(): void {
    this.#endings += 1;
    for (const { operation, context } of this.#active) {
      operation?.end();
      context.pending -= 1;
    }
    this.#active = [];
  }
}

function isTooSmall(error: unknown): boolean {
  return error instanceof TokenError && error.code === CKR.bufferTooSmall;
}
