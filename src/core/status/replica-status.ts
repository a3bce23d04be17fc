import type { Task } from '../base/task.js';
import { runTogether } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import { PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import type { VirtualObject } from '../objects/object.js';
import { resolveKey } from '../replicas/resolve.js';

/** Finds and proves objects on all serving members; their `replicaStatus` holds the results afterwards. */
export function* proveReplicas(group: Group, objects: readonly VirtualObject[], deadline: number): Task<void> {
  const serving = group.members.filter(({ isServing }) => isServing);
  yield* runTogether(
    group,
    serving.map((member) => proveOn(group, member, objects, deadline)),
  );
}

function* proveOn(group: Group, member: Member, objects: readonly VirtualObject[], deadline: number): Task<void> {
  for (const object of objects) {
    const { connection } = member;
    if (connection === undefined || connection.end !== undefined || group.port.now() >= deadline) return;
    yield* resolveKey(group, member, connection, object, new PendingWork());
  }
}
