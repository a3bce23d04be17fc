import type { Task } from '../base/task.js';
import { waitUntil } from '../base/waiting.js';
import { isReachable } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';

/** Time for which a change waits for suspects, as a share of `hangAfter`. */
const SHARE = 0.5;

/**
 * Waits a moment for members that are suspects, before a change begins without them: one that is only slow would miss
 * the change, and have to recover.
 */
export function* awaitSuspects(group: Group, deadline: number, isGivenUp: () => boolean): Task<void> {
  const { port, policy, changed } = group;
  const isSuspect = (member: Member): boolean => isReachable(member) && member.state.name === 'suspect';
  const until = Math.min(deadline, port.now() + policy.hangAfter * SHARE);
  yield* waitUntil(port, [changed], () => isGivenUp() || !group.members.some(isSuspect), until);
}
