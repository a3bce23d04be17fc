import type { Running, Task } from '../base/task.js';
import { awaitCompletion, race } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { Operation } from '../jobs/operation.js';
import { endSpareHost, startSpareHost } from '../joining/spare-host.js';
import { Attempt } from './attempt.js';

/** Result of a quarantine: the attempt that ran alone, or the reason for which none could run. */
export type Quarantined = { readonly attempt: Attempt } | { readonly attempt: undefined; readonly reason: string };

const none = (reason: string): Quarantined => ({ attempt: undefined, reason });

/**
 * Runs a call that ended several hosts once more, alone in a spare host (Rule 8). Quarantines of a group run one after
 * the other, until the deadline.
 */
export function* runInQuarantine(group: Group, operation: Operation<unknown>, deadline: number): Task<Quarantined> {
  const before = group.quarantine;
  const mine: Running<Quarantined> = group.port.start(runAlone(group, before, operation, deadline));
  group.quarantine = mine;
  try {
    yield* race([mine]);
    if (mine.ended?.ok === true) return mine.ended.value;
    return none(mine.ended?.error instanceof Error ? mine.ended.error.message : 'the quarantine was cancelled');
  } finally {
    if (!mine.completed) mine.cancel(undefined);
    if (group.quarantine === mine) group.quarantine = undefined;
  }
}

/** Runs the call after the quarantine before has ended. */
function* runAlone(
  group: Group,
  before: Running<unknown> | undefined,
  operation: Operation<unknown>,
  deadline: number,
): Task<Quarantined> {
  if (before !== undefined && !before.completed) yield* race([before], deadline);
  const { port } = group;
  // The spare host runs on the token of a member that holds the objects, best of an active member.
  const candidates = operation.only === undefined ? group.members : [operation.only];
  const holders = candidates.filter((member) => member.serial !== undefined && holds(member, operation));
  const model = holders.find((member) => member.isActive) ?? holders[0] ?? candidates[0];
  if (model === undefined || port.now() >= deadline) return none('no time was left');
  const start = yield* startSpareHost(group, model, deadline);
  if (start.kind === 'failed') return none(start.reason);
  const { member } = start;
  try {
    const { connection } = member;
    if (connection === undefined) return none('the spare host has no connection');
    const attempt = new Attempt(member, connection, group).start(operation, deadline);
    const until = Math.min(deadline, port.now() + group.policy.hangAfter);
    yield* awaitCompletion(port, attempt, until);
    attempt.cancel();
    return { attempt };
  } finally {
    endSpareHost(member);
  }
}

/** Returns true if a member has all objects of the operation. */
function holds(member: Member, { objects }: Operation<unknown>): boolean {
  return objects.every(({ replicaStatus }) => {
    const status = replicaStatus.get(member.name);
    return status === 'proven' || status === 'unproven';
  });
}
