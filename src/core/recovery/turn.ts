import type { Task } from '../base/task.js';
import { awaitResult, race, sleepUntil } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';

/** Interval between looks at the member whose turn is awaited (ms). */
const LOOK_INTERVAL = 25;
/** Share of the limits of hangs after which that member counts as silent while no member serves; it doubles each time. */
const SILENCE_SHARE = 1 / 4;

/**
 * Runs work in the member's turn, after the turns of those before it. If no member serves, and the member whose turn it
 * is does not answer, a waiting member takes the turn away: the work that was begun then ends with `revoked`.
 */
export function* runInTurn<T>(group: Group, member: Member, work: Task<T>): Task<T | 'revoked'> {
  const { port, recoveryTurns } = group;
  const impatience = port.start(revokeIfSilent(group));
  try {
    return yield* recoveryTurns.mutex.runExclusive(takeTurn(group, member, work, () => impatience.cancel(undefined)));
  } finally {
    if (!impatience.completed) impatience.cancel(undefined);
  }
}

function* takeTurn<T>(group: Group, member: Member, work: Task<T>, onBegun: () => void): Task<T | 'revoked'> {
  const { port, recoveryTurns } = group;
  onBegun();
  const turn = recoveryTurns.begin(member);
  const running = port.start(work);
  try {
    while (!running.completed && !turn.revoked.completed) yield* race([running, turn.revoked]);
    return running.completed ? yield* awaitResult(running) : 'revoked';
  } finally {
    if (!running.completed) running.cancel(undefined);
    recoveryTurns.end(turn);
  }
}

/** Takes the turn away from a member that does not answer, unless a member serves meanwhile. */
function* revokeIfSilent(group: Group): Task<void> {
  const { port, recoveryTurns } = group;
  for (;;) {
    yield* sleepUntil(port.now() + LOOK_INTERVAL);
    const { current, revocations } = recoveryTurns;
    const { policy } = group;
    if (current === undefined || group.members.some(({ isServing }) => isServing)) continue;
    const share = SILENCE_SHARE * 2 ** revocations;
    const limits = { hangAfter: policy.hangAfter * share, writeHangAfter: policy.writeHangAfter * share };
    if (current.member.connection?.isHung(port.now(), limits) === true) recoveryTurns.revoke();
  }
}
