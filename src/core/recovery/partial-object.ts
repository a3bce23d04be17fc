import { resultOf, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import { type MemberJobEnd, runOnMember } from '../call/member-job-run.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { MemberJob } from '../jobs/member-job.js';
import { hex } from '../objects/note.js';

const looking: MemberJob = {
  function: 'C_FindObjects',
  objects: [],
  isReading: true,
  job: () => ({ steps: [step('X_FindHollow')] }),
};

function hollowIn(end: MemberJobEnd): ReadonlyMap<string, Uint8Array> {
  if (end.kind !== 'done') return new Map();
  return new Map(resultOf(end.reply, 0, 'X_FindHollow').map((handle) => [hex(handle), handle]));
}

/**
 * Takes hollow objects off a member: what writes leave that are ended half-way. It looks twice, since what looks
 * hollow may be a write of another process that is under way; on a host that has just started, since session
 * objects look the same. Some tokens cannot destroy them: then they stay, and are nobody's objects.
 */
export function* removePartialObjects(group: Group, member: Member, connection: Connection): Task<void> {
  const { port, policy } = group;
  const first = hollowIn(yield* runOnMember(group, member, looking, port.now() + policy.writeHangAfter));
  const own = (handle: string): boolean => connection.sessionObjects.has(handle);
  const suspects = [...first.keys()].filter((handle) => !own(handle));
  if (suspects.length === 0) return;
  const again = port.now() + policy.hangAfter;
  while (port.now() < again && connection.end === undefined) yield* race([connection.ended], again);
  const { epoch } = connection;
  const second = hollowIn(yield* runOnMember(group, member, looking, port.now() + policy.writeHangAfter));
  let swept = 0;
  for (const [name, handle] of second) {
    if (!first.has(name) || own(name)) continue;
    const memberJob: MemberJob = {
      function: 'C_DestroyObject',
      objects: [],
      login: { connection, epoch },
      job: () => ({ steps: [step('C_DestroyObject', handle)] }),
    };
    const end = yield* runOnMember(group, member, memberJob, port.now() + policy.writeHangAfter);
    if (end.kind === 'done') swept += 1;
  }
  if (swept > 0) group.emit({ type: 'sync', member: member.name, what: 'swept', objects: [] });
}
