import { createHook, executionAsyncId, executionAsyncResource } from 'node:async_hooks';
import type { CallerContext, CallerContexts } from '../../core/sessions/caller-context.js';

const own = Symbol('pkcs11-ha flow');

type Resource = { [own]?: RunningContext };

/** A flow, and where it was last seen to begin something. */
class RunningContext implements CallerContext {
  pending: number = 0;
  execution: number = 0;
  /** Something was awaited there since: what comes next in the same place is its caller's code. */
  isLeft: boolean = false;
}

/**
 * Flows by what Node.js knows of asynchronous work: whatever a piece of code awaits or sets up goes on in its flow.
 *
 * An async function runs in its caller's place until its first await, so that the caller would seem to be of the flow that
 * was begun in it. An await makes a promise: from then on, in that place, it is the caller again who runs.
 */
class AsyncCallerContexts implements CallerContexts {
  #users = 0;
  /** The caller's flow, for as long as a call of it begins: what that sets up itself is none of the caller's awaits. */
  #calling: { flow: CallerContext | undefined } | undefined;
  readonly #hook = createHook({
    init: (_id: number, type: string, _trigger: number, resource: object): void => {
      const context = (executionAsyncResource() as Resource)[own];
      if (context === undefined) return;
      (resource as Resource)[own] = context;
      if (type === 'PROMISE' && context.pending > 0 && context.execution === executionAsyncId()) context.isLeft = true;
    },
  });

  /** Watches from now on: while it does, every promise of the process costs a fraction of a microsecond more. */
  use(): void {
    this.#users += 1;
    if (this.#users === 1) this.#hook.enable();
  }

  release(): void {
    this.#users -= 1;
    if (this.#users === 0) this.#hook.disable();
  }

  /** Begins a call in the flow that is running now. */
  call<T>(begin: () => T): T {
    const outer = this.#calling;
    this.#calling = { flow: this.#running() };
    try {
      return begin();
    } finally {
      this.#calling = outer;
    }
  }

  current(): CallerContext | undefined {
    return this.#calling === undefined ? this.#running() : this.#calling.flow;
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
    if (this.#calling !== undefined) this.#calling.flow = context;
    return context;
  }
}

/** One for the process: all its PKCS#11 applications run in the same flows. */
export const callerContexts: AsyncCallerContexts = new AsyncCallerContexts();
