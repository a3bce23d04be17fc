import { step } from '../../spec/job.js';
import { FOREVER, type Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { type Failure, failureOf, type PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import type { Replica } from '../group/replica-state.js';
import { Installation, type PlannedReplica } from '../jobs/installation.js';
import { hex } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';

/**
 * Makes a session object of the application again on a member whose host was replaced, or that had no part in
 * making it. Undefined where that cannot be done: it lives on the others only.
 */
export function* restoreSessionObject(
  group: Group,
  member: Member,
  connection: Connection,
  object: VirtualObject,
  work: PendingWork,
  /** Finds the real handle of a key that it is made with. */
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
  const job = {
    ...memberJob.job(handles, { member, connection }),
    undo: true,
    longWrite: true,
    exclusive: member.writesExclusively,
  };
  const outcome = yield* connection.run(job, 'session object', FOREVER, work);
  const failure = failureOf(outcome);
  if (failure !== undefined || outcome.kind !== 'reply') return failure ?? { kind: 'withdrawn' };
  const { installed, wrong } = installation.read(outcome.reply);
  const [made] = installed;
  if (made === undefined || wrong !== undefined) return undefined;
  if (object.isDestroyed) {
    // Its session has ended meanwhile, and it with that.
    const steps = [step('C_DestroyObject', made.handle)];
    connection.submit({ steps, exclusive: member.writesExclusively }, 'session object', FOREVER, work);
    return undefined;
  }
  if (work.epoch === connection.epoch) connection.sessionObjects.set(hex(made.handle), object);
  return { kind: 'usable', handle: made.handle, proven: made.proven };
}
