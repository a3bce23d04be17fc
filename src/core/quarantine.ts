import { Attempt } from './attempt.js';
import type { Group } from './group.js';
import { join } from './join.js';
import { Member } from './member.js';
import type { Operation } from './operation.js';
import { FOREVER, type Running, type Task } from './task.js';

/**
 * Runs a call that has ended every host it met once more, alone, in a host of its own that serves nobody
 * else (Rule 8). One at a time; undefined when no such host could be had by the deadline.
 */
export function* runInQuarantine(
  group: Group,
  operation: Operation<unknown>,
  deadline: number,
): Task<Attempt | undefined> {
  const before = group.quarantine;
  const mine: Running<Attempt | undefined> = group.port.start(takeTurn(group, before, operation, deadline));
  group.quarantine = mine;
  try {
    if (!mine.settled) yield { signals: [mine], until: FOREVER };
    return mine.ended?.ok === true ? mine.ended.value : undefined;
  } finally {
    if (!mine.settled) mine.cancel(undefined);
    if (group.quarantine === mine) group.quarantine = undefined;
  }
}

function* takeTurn(
  group: Group,
  before: Running<unknown> | undefined,
  operation: Operation<unknown>,
  deadline: number,
): Task<Attempt | undefined> {
  if (before !== undefined && !before.settled) yield { signals: [before], until: deadline };
  const { port } = group;
  // A member that holds the object and whose token can be reached: the quarantine is only another host to it.
  const holders = group.members.filter((member) => member.serial !== undefined && holds(member, operation));
  const model = holders.find((member) => member.isActive) ?? holders[0] ?? group.members[0];
  if (model === undefined || port.now() >= deadline) return undefined;
  const member = new Member({ ...model.config, lanes: 1 }, port, group.timing, () => {});
  member.serial = model.serial;
  try {
    const joined = yield* join(group, member, deadline);
    const { connection } = member;
    if (!joined.ok || connection === undefined) return undefined;
    const attempt = new Attempt(member, connection, group).start(operation, deadline);
    const until = Math.min(deadline, port.now() + group.policy.hangAfter);
    while (!attempt.settled && port.now() < until) yield { signals: [attempt], until };
    attempt.cancel();
    return attempt;
  } finally {
    member.connection?.kill(0);
  }
}

function holds(member: Member, { object }: Operation<unknown>): boolean {
  if (object === undefined) return true;
  const standing = object.standings.get(member.name);
  return standing === 'proven' || standing === 'unproven';
}
