import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import type { Failure } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import type { Replica } from '../group/replica-state.js';
import type { ReplicaStatus, VirtualObject } from '../objects/object.js';

/** Keeps the result of a search for a replica on its connection, and notes the replica's status for the object. */
export function remember(
  group: Group,
  member: Member,
  connection: Connection,
  object: VirtualObject,
  result: Replica | Failure | undefined,
): void {
  if (result === undefined) return;
  const note = (replicaStatus: ReplicaStatus): void => {
    // Status is kept for the applications' token objects, not for session objects or the group's own keys.
    if (object.session === undefined && group.objects.get(object.handle) === object)
      group.noteReplicaStatus(member, object, replicaStatus);
  };
  switch (result.kind) {
    case 'usable':
      connection.replicas.set(object, result);
      note(result.proven ? 'proven' : 'unproven');
      break;
    case 'misaligned':
    case 'absent':
      connection.replicas.set(object, result);
      note(result.kind);
      break;
    default:
      break;
  }
}
