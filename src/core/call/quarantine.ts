import type { Running, Task } from '../base/task.js';
import { awaitCompletion, race } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { Operation } from '../jobs/operation.js';
import { endSpareHost, startSpareHost } from '../joining/spare-host.js';
import { Attempt } from './attempt.js';

/** The attempt that was made alone, or why none could be. */
export type Quarantined = { readonly attempt: Attempt } | { readonly attempt: undefined; readonly reason: string };

const none = (reason: string): Quarantined => ({ attempt: undefined, reason });

/**
 * Runs a call that has ended every host it met once more, alone, in a host of its own that serves nobody
 * else (Rule 8). One at a time, by the deadline.
 */
export function* runInQuarantine(group: Group, operation: Operation<unknown>, deadline: number): Task<Quarantined> {
  const before = group.quarantine;
  const mine: Running<Quarantined> = group.port.start(takeTurn(group, before, operation, deadline));
  group.quarantine = mine;
  try {
    yield* race([mine]);
    if (mine.ended?.ok === true) return mine.ended.value;
    return none(mine.ended?.error instanceof Error ? mine.ended.error.message : 'it was given up');
  } finally {
    if (!mine.completed) mine.cancel(undefined);
    if (group.quarantine === mine) group.quarantine = undefined;
  }
}

function* takeTurn(
  group: Group,
  before: Running<unknown> | undefined,
  operation: Operation<unknown>,
  deadline: number,
): Task<Quarantined> {
  if (before !== undefined && !before.completed) yield* race([before], deadline);
  const { port } = group;
  // A member that holds the object and whose token can be reached: the quarantine is only another host to it.
  const candidates = operation.only === undefined ? group.members : [operation.only];
  const holders = candidates.filter((member) => member.serial !== undefined && holds(member, operation));
  const model = holders.find((member) => member.isActive) ?? holders[0] ?? candidates[0];
  if (model === undefined || port.now() >= deadline) return none('its turn did not come in time');
  const member = yield* startSpareHost(group, model, deadline);
  if (typeof member === 'string') return none(member);
  try {
    const { connection } = member;
    if (connection === undefined) return none('it has no connection');
    const attempt = new Attempt(member, connection, group).start(operation, deadline);
    const until = Math.min(deadline, port.now() + group.policy.hangAfter);
    yield* awaitCompletion(port, attempt, until);
    attempt.cancel();
    return { attempt };
  } finally {
    endSpareHost(member);
  }
}

function holds(member: Member, { objects }: Operation<unknown>): boolean {
  return objects.every(({ replicaStatus }) => {
    const standing = replicaStatus.get(member.name);
    return standing === 'proven' || standing === 'unproven';
  });
}
