import { type Job, step } from '../../spec/job.js';
import { FOREVER, type Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import type { Location } from '../jobs/operation.js';

/** Interval between tries to release a session (ms). */
const RELEASE_AGAIN = 100;

/** Session that a stream holds in a member's host. The number is valid for that host. */
export interface HeldSession extends Location {
  readonly number: number;
  /** Epoch of the login that the session belongs to. */
  readonly epoch: number;
}

/** Releases a held session without waiting for the release. */
export function releaseSession(group: Group, connection: Connection, number: number): void {
  group.port.start(release(group, connection, number));
}

/** Releases a session; tries until the host has the job, since a forgotten session stays open until the host ends. */
function* release({ port }: Group, connection: Connection, number: number): Task<void> {
  const job: Job = { steps: [step('X_Release', number)], sessionless: true };
  while (connection.end === undefined) {
    const { kind } = yield* connection.run(job, 'release', FOREVER);
    if (kind !== 'withdrawn') return;
    yield* race([connection.ended], port.now() + RELEASE_AGAIN);
  }
}
