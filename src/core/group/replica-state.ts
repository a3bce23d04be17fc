import type { Failure, PendingWork } from './job-outcome.js';

/** What is known of a virtual object on one connection. */
export type Replica =
  | {
      readonly kind: 'usable';
      /** The real handle: eight bytes as the token gave them. */
      readonly handle: Uint8Array;
      /** Whether it was proven to be the group's key, or nothing could be proven. */
      readonly proven: boolean;
    }
  /** Another key of that name is there, or nothing; believed until `until`, since somebody may put it right. */
  | { readonly kind: 'misaligned' | 'absent'; readonly until: number };

/** A login being made new, shared by all that found theirs lost. */
export interface Renewal extends PendingWork {
  readonly failure: Failure | undefined;
}

/** A search for a replica under way, shared by all that need it. */
export interface Resolution extends PendingWork {
  readonly result: Replica | Failure | undefined;
}
