import { FOREVER, type Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import { noteAttributes } from '../objects/note.js';
import type { SessionMaterial, VirtualObject } from '../objects/object.js';
import { isCurrent, rewrapSealed } from '../wrapping/resealing.js';

/** What could not be wrapped anew is tried again after so long (ms), as long as somebody can open it. */
const TRY_AGAIN = 500;
const WAIT_MULTIPLE = 5;

/**
 * Beside the application's calls: when the group has another domain key, what this process keeps of session objects is
 * wrapped under that. Without it they would be lost with the hosts that they live on. Never ends by itself.
 */
export function* keepSessionObjects(group: Group): Task<void> {
  const { port } = group;
  let seen: string | undefined;
  for (;;) {
    const domain = group.ledger.record?.domain.id;
    const isDone = domain === seen || (yield* resealSessionObjects(group));
    if (isDone) seen = domain;
    if (domain !== group.ledger.record?.domain.id) continue;
    yield* race([group.changed], isDone ? FOREVER : port.now() + TRY_AGAIN);
  }
}

/** False where something can be opened still, and could not be just now. */
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
  const deadline = group.port.now() + group.policy.hangAfter * WAIT_MULTIPLE;
  try {
    const wrapped = yield* rewrapSealed(group, { template: noteAttributes(template), sealed }, deadline);
    if (wrapped !== undefined && object.session !== undefined) object.session = { ...object.session, wrapped };
    return wrapped !== undefined || !('domain' in sealed) || !group.ledger.domains.has(sealed.domain);
  } catch {
    return false;
  }
}
