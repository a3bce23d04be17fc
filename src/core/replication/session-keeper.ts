import { FOREVER, type Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import { noteAttributes } from '../objects/note.js';
import type { SessionMaterial, VirtualObject } from '../objects/object.js';
import { isCurrent, rewrapSealed } from '../wrapping/resealing.js';

/** Interval between tries to rewrap session objects while a member can still open them (ms). */
const RETRY_INTERVAL = 500;
/** Deadline of one rewrap, as a multiple of `hangAfter`. */
const REWRAP_MULTIPLE = 5;

/**
 * Rewraps this process's session objects when the group gets another domain key, beside the application's calls
 * (Rule 10). Without this the objects would be lost with their hosts. Runs until it is cancelled.
 */
export function* keepSessionObjects(group: Group): Task<void> {
  const { port } = group;
  let seen: string | undefined;
  for (;;) {
    const domain = group.ledger.record?.domain.id;
    const isDone = domain === seen || (yield* resealSessionObjects(group));
    if (isDone) seen = domain;
    if (domain !== group.ledger.record?.domain.id) continue;
    yield* race([group.changed], isDone ? FOREVER : port.now() + RETRY_INTERVAL);
  }
}

/** Rewraps the session objects; returns false if one of them could not be rewrapped now but may be later. */
function* resealSessionObjects(group: Group): Task<boolean> {
  let isDone = true;
  for (const object of [...group.objects.values()]) {
    const { session } = object;
    if (session?.wrapped === undefined || isCurrent(group, session.wrapped)) continue;
    isDone = (yield* resealOne(group, object, session, session.wrapped)) && isDone;
  }
  return isDone;
}

function* resealOne(
  group: Group,
  object: VirtualObject,
  { template }: SessionMaterial,
  sealed: NonNullable<SessionMaterial['wrapped']>,
): Task<boolean> {
  const deadline = group.port.now() + group.policy.hangAfter * REWRAP_MULTIPLE;
  try {
    const wrapped = yield* rewrapSealed(group, { template: noteAttributes(template), sealed }, deadline);
    if (wrapped !== undefined && object.session !== undefined) object.session = { ...object.session, wrapped };
    return wrapped !== undefined || !('domain' in sealed) || !group.ledger.domains.has(sealed.domain);
  } catch {
    return false;
  }
}
