import { type Job, step } from '../../spec/job.js';
import { FOREVER, type Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { type Failure, isFailure, type PendingWork, replyOrFailure } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import type { Replica } from '../group/replica-state.js';
import { Installation, type PlannedReplica } from '../jobs/installation.js';
import { hex } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';

/**
 * Makes a session object of the application on a member that lacks it, because its host was replaced or it took no part
 * in the creation. Undefined if that is not possible: the object lives on the other members only.
 */
export function* restoreSessionObject(
  group: Group,
  member: Member,
  connection: Connection,
  object: VirtualObject,
  work: PendingWork,
  /** Returns the real handle of a key that the creation needs. */
  locate: (key: VirtualObject) => Task<Uint8Array | Failure>,
): Task<Replica | Failure | undefined> {
  const { session } = object;
  if (session === undefined || session.template.length === 0) return undefined;
  const { wrapped, template } = session;
  const origin = wrapped === undefined ? ({ kind: 'created' } as const) : ({ kind: 'unwrapped', wrapped } as const);
  const planned: PlannedReplica = { object, origin, template, token: false };
  const installation = new Installation(group, member, 'C_CreateObject', [planned], []);
  const memberJob = installation.memberJob();
  if (memberJob === undefined) return undefined;
  const handles: Uint8Array[] = [];
  for (const key of memberJob.objects) {
    const located = yield* locate(key);
    if (!(located instanceof Uint8Array)) return located;
    handles.push(located);
  }
  const job: Job = {
    ...memberJob.job(handles, { member, connection }),
    undo: true,
    longWrite: true,
    exclusive: member.writesExclusively,
  };
  const reply = replyOrFailure(yield* connection.run(job, 'session object', FOREVER, work));
  if (isFailure(reply)) return reply;
  const { installed, wrong } = installation.read(reply);
  const [made] = installed;
  if (made === undefined || wrong !== undefined) return undefined;
  if (object.isDestroyed) {
    // The application's session has ended meanwhile, and destroyed the object.
    const steps = [step('C_DestroyObject', made.handle)];
    connection.submit({ steps, exclusive: member.writesExclusively }, 'session object', FOREVER, work);
    return undefined;
  }
  if (work.epoch === connection.epoch) connection.sessionObjects.set(hex(made.handle), object);
  return { kind: 'usable', handle: made.handle, proven: made.proven };
}
