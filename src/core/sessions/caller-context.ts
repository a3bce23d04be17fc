/**
 * Course of an application's code from an Init on, across waits. Two courses that use one session at the same time are
 * told apart by their contexts.
 */
export interface CallerContext {
  /** Number of active operations of the context. */
  pending: number;
}

/** Caller contexts of a process; the runtime implements it. */
export interface CallerContexts {
  /** Context of the running code; undefined if the code has none, or is a caller of code that has. */
  current(): CallerContext | undefined;
  /** Puts the running code into a context and returns it: the present one if it has active operations, or a new one. */
  enter(): CallerContext;
}
