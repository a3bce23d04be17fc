import type { Attribute } from '../../spec/attribute.js';
import { step } from '../../spec/job.js';
import type { Connection } from '../group/connection.js';
import type { VirtualObject } from '../objects/object.js';
import type { Operation } from './operation.js';

/** Job for one member and no other. */
export interface MemberJob {
  /** Function that errors and events name. */
  readonly function: string;
  readonly mechanism?: number | undefined;
  /** True if it writes nothing: it may run beside other jobs (Rule 5). */
  readonly isReading?: boolean;
  /** True if it makes a key pair, which has no typical duration. */
  readonly isSlow?: boolean;
  /** Objects that it needs on the member; `job` gets their real handles in this order. */
  readonly objects: readonly VirtualObject[];
  readonly job: Operation<unknown>['job'];
  /** Login that real handles inside the job belong to; if it has been replaced, the job is not run (Rule 13). */
  readonly login?: Login;
}

/** Returns a reading job that finds at most `most` objects and reads attributes of them: result 0, X_Find. */
export function findingJob(template: readonly Attribute[], most: number, types: readonly number[] = []): MemberJob {
  return {
    function: 'C_FindObjects',
    objects: [],
    isReading: true,
    job: () => ({ steps: [step('X_Find', template, most, types)] }),
  };
}

/** Login of a connection; real handles are valid for one login only (Rule 13). */
export interface Login {
  readonly connection: Connection;
  readonly epoch: number;
}
