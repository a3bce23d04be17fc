import { resultOf, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { waitUntil } from '../base/waiting.js';
import { type MemberJobEnd, runOnMember } from '../call/member-job-run.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { MemberJob } from '../jobs/member-job.js';
import { hex } from '../objects/note.js';

const findPartial: MemberJob = {
  function: 'C_FindObjects',
  objects: [],
  isReading: true,
  job: () => ({ steps: [step('X_FindHollow')] }),
};

/** Returns the handles of the partial objects that were found, by their hexadecimal form. */
function handlesIn(end: MemberJobEnd): ReadonlyMap<string, Uint8Array> {
  if (end.kind !== 'done') return new Map();
  return new Map(resultOf(end.reply, 0, 'X_FindHollow').map((handle) => [hex(handle), handle]));
}

/**
 * Removes partial objects from a member. Looks twice: a partial object may be a write of another process that is under
 * way. Runs on a host that has just started, because session objects look the same. Partial objects that the token
 * cannot destroy stay, and do not appear to applications.
 */
export function* removePartialObjects(group: Group, member: Member, connection: Connection): Task<void> {
  const { port, policy } = group;
  const first = handlesIn(yield* runOnMember(group, member, findPartial, port.now() + policy.writeHangAfter));
  const isOwn = (handle: string): boolean => connection.sessionObjects.has(handle);
  const suspects = [...first.keys()].filter((handle) => !isOwn(handle));
  if (suspects.length === 0) return;
  const again = port.now() + policy.hangAfter;
  yield* waitUntil(port, [connection.ended], () => connection.end !== undefined, again);
  const { epoch } = connection;
  const second = handlesIn(yield* runOnMember(group, member, findPartial, port.now() + policy.writeHangAfter));
  let removed = 0;
  for (const [name, handle] of second) {
    if (!first.has(name) || isOwn(name)) continue;
    const memberJob: MemberJob = {
      function: 'C_DestroyObject',
      objects: [],
      login: { connection, epoch },
      job: () => ({ steps: [step('C_DestroyObject', handle)] }),
    };
    const end = yield* runOnMember(group, member, memberJob, port.now() + policy.writeHangAfter);
    if (end.kind === 'done') removed += 1;
  }
  if (removed > 0) group.emit({ type: 'sync', member: member.name, what: 'swept', objects: [] });
}
