import { CKR } from '../../spec/codes.js';
import type { Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { type Failure, PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import type { Replica, Resolution } from '../group/replica-state.js';
import type { FoundReplica } from '../objects/found-object.js';
import { isProvenByIdentity } from '../objects/identity.js';
import type { VirtualObject } from '../objects/object.js';
import { pickCopy } from './copies.js';
import { compare } from './fingerprint.js';
import { candidatesOn } from './inventory.js';
import { establishReference } from './reference.js';
import { remember } from './replica.js';
import { restoreSessionObject } from './session-object.js';

class Resolving extends PendingWork implements Resolution {
  result: Replica | Failure | undefined;
}

/**
 * Finds a virtual object's replica on a member and proves, before it is used for the first time on that
 * connection, that it is the group's key (Rule 12). One search at a time; all who need it share it.
 */
export function resolve(group: Group, member: Member, connection: Connection, object: VirtualObject): Resolution {
  const running = connection.resolutions.get(object);
  if (running !== undefined) return running;
  const resolution = new Resolving();
  resolution.epoch = connection.epoch;
  connection.resolutions.set(object, resolution);
  group.port.start(
    (function* (): Task<void> {
      try {
        resolution.result = yield* search(group, member, connection, object, resolution);
      } catch {
        // A token that answers outside of the standard must not take the call with it.
        resolution.result = { kind: 'code', function: 'C_FindObjects', code: CKR.generalError };
      } finally {
        connection.resolutions.delete(object);
        // What was found under a login that has been replaced meanwhile is void.
        if (resolution.epoch === connection.epoch) remember(group, member, connection, object, resolution.result);
        else resolution.result = { kind: 'withdrawn' };
        resolution.complete();
      }
    })(),
  );
  return resolution;
}

function* search(
  group: Group,
  member: Member,
  connection: Connection,
  object: VirtualObject,
  work: PendingWork,
): Task<Replica | Failure> {
  // It is believed for a while that a member has no use for a call: then somebody may have put the right key there.
  const until = group.port.now() + group.policy.freshness;
  if (object.isDestroyed) return { kind: 'absent', until };
  if (object.session !== undefined) {
    const locate = (key: VirtualObject): Task<Uint8Array | Failure> => resolveKey(group, member, connection, key, work);
    const restored = yield* restoreSessionObject(group, member, connection, object, work, locate);
    return restored ?? { kind: 'absent', until };
  }
  const identified = isProvenByIdentity(object.description);
  const candidates = yield* candidatesOn(connection, object, work);
  if (candidates.kind !== 'candidates') return candidates;
  const { list } = candidates;
  if (list.length === 0) return { kind: 'absent', until };
  if (identified) return yield* usable(connection, object, list, work);
  if (!object.referenced) yield* establishReference(group, object, work);
  // The reference may have been taken from this very connection.
  const replica = connection.replicas.get(object);
  if (replica?.kind === 'usable') return replica;
  if (!object.referenced) return { kind: 'deferred' };
  const matches: FoundReplica[] = [];
  const unproven: FoundReplica[] = [];
  for (const candidate of list) {
    const comparison = yield* compare(group, connection, object, candidate, work);
    if (typeof comparison !== 'string') return comparison;
    if (comparison === 'same') matches.push(candidate);
    if (comparison === 'unknown') unproven.push(candidate);
  }
  if (matches.length > 0) return yield* usable(connection, object, matches, work);
  // Of several that nothing can be proven of, none may be guessed.
  const [only] = unproven;
  if (only !== undefined && unproven.length === 1) return { kind: 'usable', handle: only.handle, proven: false };
  return { kind: 'misaligned', until };
}

/** That of the proven candidates which the object is. */
function* usable(
  connection: Connection,
  object: VirtualObject,
  matches: readonly FoundReplica[],
  work: PendingWork,
): Task<Replica | Failure> {
  const match = yield* pickCopy(connection, object, matches, work);
  if (match === undefined || 'kind' in match) return match ?? { kind: 'withdrawn' };
  return { kind: 'usable', handle: match.handle, proven: true };
}

/** The real handle of an object on a member, for work that is done there anyway; the failure where it has none. */
export function* resolveKey(
  group: Group,
  member: Member,
  connection: Connection,
  object: VirtualObject,
  work: PendingWork,
): Task<Uint8Array | Failure> {
  const known = connection.replicas.get(object);
  if (known?.kind === 'usable') return known.handle;
  const resolution = resolve(group, member, connection, object);
  yield* work.follow(resolution);
  const { result } = resolution;
  if (result === undefined) return { kind: 'deferred' };
  switch (result.kind) {
    case 'usable':
      return result.handle;
    case 'absent':
    case 'misaligned':
      return { kind: 'deferred' };
    default:
      return result;
  }
}
