import { CKR } from '../../spec/codes.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { race, sleepUntil } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import type { VirtualObject } from '../objects/object.js';
import { takeNewReference } from '../replicas/key-record.js';
import { findObjects } from './find.js';

/**
 * The object of a virtual handle; one that this process has not met costs an enumeration. There is one within
 * `freshness` at most: whoever asks sooner waits, since another process may have made the object meanwhile.
 */
export function* findByHandle(group: Group, handle: number, deadline: number): Task<VirtualObject> {
  const known = visibleObject(group, handle);
  if (known !== undefined) return known;
  const { port } = group;
  const askedAt = port.now();
  const mayEnumerateAt = Math.min(deadline, group.enumeratedAt + group.policy.freshness);
  while (group.enumeratedAt < askedAt) {
    if (group.enumerating === undefined && port.now() < mayEnumerateAt) {
      yield* sleepUntil(mayEnumerateAt);
      continue;
    }
    if (port.now() >= deadline) break;
    group.enumerating ??= port.start(enumerate(group, deadline));
    const { enumerating } = group;
    yield* race([enumerating], deadline);
    if (enumerating.ended?.ok === false) throw enumerating.ended.error;
    const met = visibleObject(group, handle);
    if (met !== undefined) return met;
  }
  const found = visibleObject(group, handle);
  if (found !== undefined) return found;
  if (group.enumeratedAt < askedAt)
    throw new TokenError(CKR.deviceRemoved, 'C_FindObjects', `no member answered in time: ${group.describeMembers()}`);
  throw new TokenError(CKR.objectHandleInvalid, 'C_FindObjects', 'no member has an object of that handle');
}

/** The object of a handle; an unknown one is the code that PKCS#11 has for its part in the call. */
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
    throw new TokenError(code, functionName, 'no member has an object of that handle');
  }
}

export function checkClass(
  functionName: string,
  { description }: VirtualObject,
  classes: readonly number[],
  code: number,
): void {
  if (classes.includes(description.class)) return;
  throw new TokenError(code, functionName, 'the object is of a class that this call has no use for');
}

/** Objects that members do not have under the names that are known here may go by others since, which aliases tell. */
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

/** The object of a handle, where this process has met it and the application may know of it. */
export function visibleObject(group: Group, handle: number): VirtualObject | undefined {
  const known = group.objects.get(handle);
  return known !== undefined && group.isVisible(known) ? known : undefined;
}

/** Meets all objects, once for all who wait for it. */
function* enumerate(group: Group, deadline: number): Task<void> {
  const startedAt = group.port.now();
  try {
    yield* findObjects(group, [], deadline);
    group.enumeratedAt = startedAt;
  } finally {
    group.enumerating = undefined;
  }
}
