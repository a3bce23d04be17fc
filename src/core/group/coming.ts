import type { StateName } from '../base/state.js';
import type { Task } from '../base/task.js';
import { race, waitUntil } from '../base/waiting.js';
import type { Group } from './group.js';
import type { Member } from './member.js';

/** Interval between looks at whether the caller has given up (ms). */
const POLL = 100;

const comingStates: readonly StateName[] = ['joining', 'recovering', 'suspect'];

/** Returns true if a member is on its way into service. A suspect is: it answers in a moment, or is down. */
export function isComing({ state }: Member): boolean {
  return comingStates.includes(state.name);
}

/**
 * Waits until none of the members is on its way into service, or the caller gives up. Work that needs them all is not
 * refused for a slow one.
 */
export function* awaitComing(
  { port, changed }: Group,
  members: readonly Member[],
  deadline: number,
  isGivenUp: () => boolean = () => false,
): Task<void> {
  while (members.some(isComing) && port.now() < deadline && !isGivenUp())
    yield* race([changed], Math.min(deadline, port.now() + POLL));
}

/** Waits until no member is joining: then each was found, or its failure is known. */
export function* awaitJoins(group: Group, deadline: number): Task<void> {
  const isJoining = ({ state }: Member): boolean => state.name === 'joining';
  yield* waitUntil(group.port, [group.changed], () => !group.members.some(isJoining), deadline);
}
