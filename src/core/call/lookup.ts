import { CKR } from '../../spec/codes.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { joinOrStart, race, sleepUntil } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import type { VirtualObject } from '../objects/object.js';
import { takeNewReference } from '../replicas/key-record.js';
import { findObjects } from './find.js';

/**
 * Finds the object of a virtual handle; CKR_OBJECT_HANDLE_INVALID if no member has it. If this process does not know
 * the handle, all objects are enumerated, since another process may have made the object. Enumerations start at most
 * once in `policy.freshness`; callers wait for the next.
 */
function* findByHandle(group: Group, handle: number, deadline: number): Task<VirtualObject> {
  const known = visibleObject(group, handle);
  if (known !== undefined) return known;
  const { port } = group;
  const askedAt = port.now();
  const mayEnumerateAt = Math.min(deadline, group.enumeratedAt + group.policy.freshness);
  while (group.enumeratedAt < askedAt) {
    if (group.enumerating?.completed !== false && port.now() < mayEnumerateAt) {
      yield* sleepUntil(mayEnumerateAt);
      continue;
    }
    if (port.now() >= deadline) break;
    const enumerating = joinOrStart(group.enumerating, () => port.start(enumerate(group, deadline)));
    group.enumerating = enumerating;
    yield* race([enumerating], deadline);
    if (enumerating.ended?.ok === false) throw enumerating.ended.error;
    const enumerated = visibleObject(group, handle);
    if (enumerated !== undefined) return enumerated;
  }
  const found = visibleObject(group, handle);
  if (found !== undefined) return found;
  if (group.enumeratedAt < askedAt)
    throw new TokenError(CKR.deviceRemoved, 'C_FindObjects', `no member answered in time: ${group.describeMembers()}`);
  throw new TokenError(CKR.objectHandleInvalid, 'C_FindObjects', 'no member has an object with that handle');
}

/** Finds the object of a handle; an unknown handle is `code`, which depends on the object's part in the call. */
export function* findKey(
  group: Group,
  handle: number,
  code: number,
  functionName: string,
  deadline: number,
): Task<VirtualObject> {
  try {
    return yield* findByHandle(group, handle, deadline);
  } catch (error) {
    if (!(error instanceof TokenError) || error.code !== CKR.objectHandleInvalid) throw error;
    throw new TokenError(code, functionName, 'no member has an object with that handle');
  }
}

/** Throws `code` unless the object is of one of the classes (CKO_*). */
export function checkClass(
  functionName: string,
  { description }: VirtualObject,
  classes: readonly number[],
  code: number,
): void {
  if (classes.includes(description.class)) return;
  throw new TokenError(code, functionName, 'the call does not take objects of this class');
}

/**
 * Reads the alias records again: another process may have renamed the objects. Afterwards members look for the objects
 * under their current names.
 */
export function* rereadAliases(group: Group, objects: readonly VirtualObject[], deadline: number): Task<void> {
  group.ledger.aliasesReadAt = Number.NEGATIVE_INFINITY;
  yield* findObjects(group, [], deadline);
  for (const object of objects) yield* takeNewReference(group, object);
  for (const { connection } of group.members) {
    for (const object of objects) {
      if (connection?.replicas.get(object)?.kind !== 'usable') connection?.replicas.delete(object);
    }
  }
}

/**
 * Returns the object of a handle; undefined if this process does not know the object or the application may not see it.
 */
export function visibleObject(group: Group, handle: number): VirtualObject | undefined {
  const known = group.objects.get(handle);
  return known !== undefined && group.isVisible(known) ? known : undefined;
}

/** Finds all objects, once for all callers that wait. */
function* enumerate(group: Group, deadline: number): Task<void> {
  const startedAt = group.port.now();
  yield* findObjects(group, [], deadline);
  group.enumeratedAt = startedAt;
}
