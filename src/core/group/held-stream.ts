/** Held stream: a multi-part operation that holds a session in the host. */
export interface HeldStream {
  /** True if the stream can give up its session for another operation, and go on elsewhere. */
  readonly mayMove: boolean;
  /** Gives the session back to the host. */
  leave(): void;
}
