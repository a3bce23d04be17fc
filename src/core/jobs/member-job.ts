import type { Connection } from '../group/connection.js';
import type { VirtualObject } from '../objects/object.js';
import type { Operation } from './operation.js';

/** Something that has to be done on one member and no other. */
export interface MemberJob {
  readonly function: string;
  readonly mechanism?: number | undefined;
  /** It writes nothing: it may run beside others. */
  readonly isReading?: boolean;
  /** It makes a key pair. */
  readonly isSlow?: boolean;
  /** The objects it needs there; the job gets their real handles in their order. */
  readonly objects: readonly VirtualObject[];
  readonly job: Operation<unknown>['job'];
  /** The login that handles within the job are of: without it the job is not run. */
  readonly login?: Login;
}

/** One login of a connection: real handles are good for it only (Rule 13). */
export interface Login {
  readonly connection: Connection;
  readonly epoch: number;
}
