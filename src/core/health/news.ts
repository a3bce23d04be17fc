import type { Task } from '../base/task.js';
import { race, waitUntil } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import { refreshTokens } from '../joining/token-refresh.js';

/** Time around a change of this process within which a change of another one may be missed (ms). */
const OVERLAP = 500;
/** Time without changes after which tokens are refreshed (ms). */
const QUIET = 200;
/** Longest wait for such a time (ms). */
const LONGEST_WAIT = 5000;

/** Has the group record read again when another process announces a change. Never ends by itself. */
export function* followNews(group: Group): Task<void> {
  for (;;) {
    yield* race([group.coordinator.news]);
    group.recordReadAt = Number.NEGATIVE_INFINITY;
    for (const member of group.members) if (member.isActive) member.suspicion.fire();
  }
}

/**
 * Refreshes tokens after two processes have changed objects at the same time: a host of SoftHSM may then be blind to
 * what the other process has made (see joining/token-refresh.ts). Never ends by itself.
 */
export function* followChanges(group: Group): Task<void> {
  const { port, coordinator } = group;
  const isOverlapping = (): boolean => group.changes.size > 0 || port.now() - group.changedAt < OVERLAP;
  for (;;) {
    yield* race([coordinator.changes]);
    const exclusive = group.members.filter(({ isActive, writesExclusively }) => isActive && writesExclusively);
    if (exclusive.length === 0 || !isOverlapping()) continue;
    const until = port.now() + LONGEST_WAIT;
    while (port.now() < until && (yield* hasChange(group)));
    yield* refreshTokens(
      group,
      exclusive.filter(({ isActive }) => isActive),
    );
  }
}

/** Waits for a moment; returns true if a process changed objects meanwhile. */
function* hasChange(group: Group): Task<boolean> {
  const { port, coordinator } = group;
  const startedAt = port.now();
  let hasHeard = false;
  const hear = {
    wake: (): void => {
      hasHeard = true;
    },
  };
  coordinator.changes.add(hear);
  try {
    yield* waitUntil(port, [coordinator.changes], () => hasHeard || group.changedAt > startedAt, startedAt + QUIET);
    return hasHeard || group.changes.size > 0 || group.changedAt > startedAt;
  } finally {
    coordinator.changes.remove(hear);
  }
}
