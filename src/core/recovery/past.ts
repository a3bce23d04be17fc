import type { Task } from '../base/task.js';
import { sleepUntil } from '../base/waiting.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { stepLimit } from '../group/hang-limits.js';
import type { Member } from '../group/member.js';
import { readPosition, writePosition } from '../replication/position-mark.js';

/** Time after which an older position is read again: a change of another process may be under way (ms). */
const LOOK_AGAIN = 50;
/** Number of readings after which a position that stays older counts. */
const MOST_LOOKS = 4;

/** Returns the latest position that is known of other members; 0 if none is. */
function latestOfOthers({ members }: Group, member: Member): number {
  return Math.max(0, ...members.map((other) => (other === member ? 0 : (other.position.time ?? 0))));
}

/**
 * Reads the position of a member that joins; returns true if it is older than that of another member. The member then
 * lacks changes, or its token was put back to an earlier state.
 */
export function* isFromPast(group: Group, member: Member): Task<boolean> {
  const { port, policy } = group;
  for (let looks = 1; ; looks += 1) {
    const time = yield* readPosition(group, member, port.now() + stepLimit(policy));
    if (time === undefined) return false;
    member.position.take(time);
    if (time >= latestOfOthers(group, member)) return false;
    // A member that has missed changes of this process is compared in any case.
    if (looks === MOST_LOOKS || member.role.hasServed) return true;
    yield* sleepUntil(port.now() + LOOK_AGAIN);
  }
}

/** Notes that a member was compared with another one; gives it the position of that one if it lacks nothing. */
export function* takePositionOf(group: Group, member: Member, source: Member, isAlike: boolean): Task<void> {
  const { time = 0 } = source.position;
  member.position.noteComparison();
  if (isAlike && time > (member.position.time ?? 0))
    yield* writePosition(group, member, time, group.port.now() + stepLimit(group.policy));
}

/** Starts to look at the members whose positions are older than that of a member that now serves. */
export function doubtOlder(group: Group, member: Member): void {
  const { time = 0 } = member.position;
  for (const other of group.members) {
    const { connection, position } = other;
    if (other === member || connection === undefined || position.time === undefined || position.time >= time) continue;
    group.port.start(lookAtOlder(group, other, connection, { name: member.name, time }));
  }
}

/**
 * Has a member recover whose position stays older than that of another one, unless it is compared meanwhile. If this
 * process gives the member a change meanwhile, its position tells nothing any more, and the member recovers too.
 */
function* lookAtOlder(
  group: Group,
  member: Member,
  connection: Connection,
  newer: { readonly name: string; readonly time: number },
): Task<void> {
  const { port, policy } = group;
  const { given, comparisons } = member.position;
  for (let looks = 0; looks < MOST_LOOKS || !member.isServing; looks += 1) {
    // The first look comes before this process has given the member a change.
    if (looks > 0) yield* sleepUntil(port.now() + LOOK_AGAIN);
    if (connection !== member.connection || connection.end !== undefined) return;
    if (member.position.comparisons > comparisons) return;
    const time = yield* readPosition(group, member, port.now() + stepLimit(policy));
    if (time !== undefined && time >= newer.time && member.position.given === given) {
      member.position.take(time);
      return;
    }
  }
  if (connection !== member.connection) return;
  member.requireRecovery(`the token is in an earlier state than that of ${newer.name}`);
}
