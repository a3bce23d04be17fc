import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import type { Failure } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import type { Replica } from '../group/replica-state.js';
import type { ReplicaStatus, VirtualObject } from '../objects/object.js';

/** Keeps what was found of an object on a connection, and how it stands there. */
export function remember(
  group: Group,
  member: Member,
  connection: Connection,
  object: VirtualObject,
  result: Replica | Failure | undefined,
): void {
  if (result === undefined) return;
  const note = (replicaStatus: ReplicaStatus): void => {
    // Of session objects nobody has to know where they are.
    // Neither of those that nobody but the group itself knows of.
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
