import { createHook, executionAsyncId, executionAsyncResource } from 'node:async_hooks';
import type { CallerContext, CallerContexts } from '../../core/sessions/caller-context.js';

const own = Symbol('pkcs11-ha caller context');

type Resource = { [own]?: RunningContext };

/** Caller context, with the place where it last began a call. */
class RunningContext implements CallerContext {
  pending: number = 0;
  execution: number = 0;
  /** True if code in that place has awaited since: later code in the same place is the caller's. */
  isLeft: boolean = false;
}

/**
 * Caller contexts from Node.js's asynchronous resources: work that code awaits or sets up continues in its context.
 *
 * An async function runs in its caller's place until its first await, so the caller would seem to belong to the context
 * that began there. An await creates a promise: from then on the caller runs in that place again.
 */
class AsyncCallerContexts implements CallerContexts {
  #users = 0;
  /** Caller's context while its call begins: promises that the call itself creates are not the caller's awaits. */
  #calling: { context: CallerContext | undefined } | undefined;
  readonly #hook = createHook({
    init: (_id: number, type: string, _trigger: number, resource: object): void => {
      const context = (executionAsyncResource() as Resource)[own];
      if (context === undefined) return;
      (resource as Resource)[own] = context;
      if (type === 'PROMISE' && context.pending > 0 && context.execution === executionAsyncId()) context.isLeft = true;
    },
  });

  /** Starts watching. Meanwhile every promise of the process costs a fraction of a microsecond more. */
  use(): void {
    this.#users += 1;
    if (this.#users === 1) this.#hook.enable();
  }

  release(): void {
    this.#users -= 1;
    if (this.#users === 0) this.#hook.disable();
  }

  /** Begins a call in the context that is running now. */
  call<T>(begin: () => T): T {
    const outer = this.#calling;
    this.#calling = { context: this.#running() };
    try {
      return begin();
    } finally {
      this.#calling = outer;
    }
  }

  current(): CallerContext | undefined {
    return this.#calling === undefined ? this.#running() : this.#calling.context;
  }

  #running(): CallerContext | undefined {
    const context = (executionAsyncResource() as Resource)[own];
    if (context === undefined || (context.isLeft && context.execution === executionAsyncId())) return undefined;
    return context;
  }

  enter(): CallerContext {
    const resource = executionAsyncResource() as Resource;
    const current = this.current() as RunningContext | undefined;
    const context = current !== undefined && current.pending > 0 ? current : new RunningContext();
    context.execution = executionAsyncId();
    context.isLeft = false;
    resource[own] = context;
    if (this.#calling !== undefined) this.#calling.context = context;
    return context;
  }
}

/** Caller contexts of the process, shared by all its PKCS#11 applications. */
export const callerContexts: AsyncCallerContexts = new AsyncCallerContexts();
