/**
 * A course of an application's code from an Init on: what it does next, also after it has waited. Two that use one
 * session beside each other are told apart by it.
 */
export interface CallerContext {
  /** Operations that it has under way. */
  pending: number;
}

/** Tells which flow is running. */
export interface CallerContexts {
  /** The flow of the code that runs now; undefined where it is none's, or only calls what has gone on by itself. */
  current(): CallerContext | undefined;
  /** The running code belongs to a flow from now on: to the one that it belonged to, as long as that has something under way. */
  enter(): CallerContext;
}
