import type { Failure, PendingWork } from './job-outcome.js';

/** Replica of a virtual object on a connection, as far as it is known. */
export type Replica =
  | {
      readonly kind: 'usable';
      /** Real handle: eight bytes. */
      readonly handle: Uint8Array;
      /** True if the replica was proven to be the group's key; false if the token can give no proof. */
      readonly proven: boolean;
    }
  /** Another key of the identity, or none. Believed until a time (ms of the port's clock), since that may be mended. */
  | { readonly kind: 'misaligned' | 'absent'; readonly until: number };

/** Renewal of a login, shared by all calls that found the login lost. */
export interface Renewal extends PendingWork {
  /** Failure of the renewal; undefined if it succeeded or still runs. */
  readonly failure: Failure | undefined;
}

/** Search for a replica, shared by all calls that need it. */
export interface Resolution extends PendingWork {
  /** Result or failure; undefined while the search runs. */
  readonly result: Replica | Failure | undefined;
}
