import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Group } from '../group/group.js';

/** Has the group record read again when another process announces a change. Never ends by itself. */
export function* followNews(group: Group): Task<void> {
  for (;;) {
    yield* race([group.coordinator.news]);
    group.recordReadAt = Number.NEGATIVE_INFINITY;
    for (const member of group.members) if (member.isActive) member.suspicion.fire();
  }
}
