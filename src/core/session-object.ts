import type { Connection } from './connection.js';
import type { Group } from './group.js';
import { Installation, type Piece } from './installation.js';
import type { Member } from './member.js';
import type { VirtualObject } from './object.js';
import { Effort, type Failure, failureOf } from './outcome.js';
import { hex } from './record.js';
import type { Replica } from './replica.js';
import { resolveKey } from './resolve.js';
import { FOREVER, type Task } from './task.js';

/**
 * Makes a session object of the application again on a member whose host was replaced, or that had no part in
 * making it. Undefined where that cannot be done: it lives on the others only.
 */
export function* restoreSessionObject(
  group: Group,
  member: Member,
  connection: Connection,
  object: VirtualObject,
  effort: Effort,
): Task<Replica | Failure | undefined> {
  const { session } = object;
  if (session === undefined || session.template.length === 0) return undefined;
  const { wrapped, template } = session;
  const origin = wrapped === undefined ? ({ kind: 'created' } as const) : ({ kind: 'unwrapped', wrapped } as const);
  const piece: Piece = { object, origin, template, token: false };
  const installation = new Installation(group, member, 'C_CreateObject', [piece], []);
  const errand = installation.errand();
  if (errand === undefined) return undefined;
  const handles: Uint8Array[] = [];
  for (const key of errand.objects) {
    const located = yield* resolveKey(group, member, connection, key, effort);
    if (!(located instanceof Uint8Array)) return located;
    handles.push(located);
  }
  const job = { ...errand.job(handles), undo: true, patient: true, exclusive: member.writesExclusively };
  const outcome = yield* connection.run(job, 'session object', FOREVER, effort);
  const failure = failureOf(outcome);
  if (failure !== undefined || outcome.kind !== 'reply') return failure ?? { kind: 'withdrawn' };
  const { installed, wrong } = installation.read(outcome.reply);
  const [made] = installed;
  if (made === undefined || wrong !== undefined) return undefined;
  if (effort.epoch === connection.epoch) connection.sessionObjects.set(hex(made.handle), object);
  return { kind: 'usable', handle: made.handle, proven: made.proven };
}

/** Makes all session objects of the application again where a host was replaced. */
export function* restoreSessionObjects(group: Group, member: Member, connection: Connection): Task<void> {
  for (const object of [...group.objects.values()]) {
    if (object.session === undefined || connection.end !== undefined) continue;
    yield* resolveKey(group, member, connection, object, new Effort());
  }
}
