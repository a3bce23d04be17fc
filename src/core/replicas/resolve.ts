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
import { relearnKeyRecord } from './key-record.js';
import { establishReference } from './reference.js';
import { remember } from './replica.js';
import { restoreSessionObject } from './session-object.js';

class Resolving extends PendingWork implements Resolution {
  result: Replica | Failure | undefined;
}

/**
 * Finds a virtual object's replica on a member and proves, before its first use on that connection, that it is the
 * group's key (Rule 12). All callers that need the replica at one time share one search.
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
        // An answer that violates the standard fails the search, not the caller.
        resolution.result = { kind: 'code', function: 'C_FindObjects', code: CKR.generalError };
      } finally {
        connection.resolutions.delete(object);
        // If the login was replaced meanwhile, the real handles are void (Rule 13).
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
  // After `freshness` the member is searched again, since the key may have been put there.
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
  // If the reference was taken from this connection, its replica is known.
  const replica = connection.replicas.get(object);
  if (replica?.kind === 'usable') return replica;
  // The record of a key goes when the key is destroyed: an object of its name is another one.
  if (!object.referenced) return object.record === null ? { kind: 'absent', until } : { kind: 'deferred' };
  const matches: FoundReplica[] = [];
  const unproven: FoundReplica[] = [];
  for (const candidate of list) {
    const comparison = yield* compare(group, connection, object, candidate, work);
    if (typeof comparison !== 'string') return comparison;
    if (comparison === 'same') matches.push(candidate);
    if (comparison === 'unknown') unproven.push(candidate);
  }
  if (matches.length > 0) return yield* usable(connection, object, matches, work);
  // If nothing can be proven of several candidates, none of them is used.
  const [only] = unproven;
  // If the record is gone, the key was destroyed, and the candidate is another one.
  if (object.isRecorded) yield* relearnKeyRecord(group, object);
  if (object.isRecorded && object.record === null) return { kind: 'absent', until };
  if (only !== undefined && unproven.length === 1) return { kind: 'usable', handle: only.handle, proven: false };
  return { kind: 'misaligned', until };
}

/** Returns the replica among the proven candidates. */
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

/** Returns the real handle of an object on a member; failure `deferred` if the member has no usable replica. */
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
