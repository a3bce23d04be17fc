import { rejoinAfter } from '../base/backoff.js';
import type { Task } from '../base/task.js';
import { sleepUntil } from '../base/waiting.js';
import type { MemberConfig } from '../configuration/configuration.js';
import type { Group } from '../group/group.js';
import { Member } from '../group/member.js';
import { type JoinResult, join } from './join.js';
import { type FoundToken, startLibrary, tokensOf } from './library.js';

/** Hang limits for leaving a spare host (ms). */
const NO_LIMITS = { hangAfter: 0, writeHangAfter: 0 } as const;

/** Result of a start: a member of the same token with a host of its own, or the reason for the failure. */
type SpareHostStart =
  | { readonly kind: 'started'; readonly member: Member }
  | { readonly kind: 'failed'; readonly reason: string };

/**
 * Starts a further host on a member's token, which sees the token as it is now; the caller ends it with `endSpareHost`.
 * A failed join is repeated until the deadline: SoftHSM may not show a token to a host that starts while another host
 * of the token starts. If `logsIn` is false, the host does not log in.
 */
export function* startSpareHost(group: Group, model: Member, deadline: number, logsIn = true): Task<SpareHostStart> {
  const member = spareMemberOf(group, model);
  if (!logsIn) member.login.skip();
  try {
    const failure = yield* joinOnSpareHost(group, member, deadline);
    return failure === undefined ? { kind: 'started', member } : { kind: 'failed', reason: failure.reason };
  } finally {
    if (logsIn) model.login.learnRefusals(member.login);
  }
}

/** Reads the group's records on the token of a member that does not serve; a failed join is not repeated. */
export function* inspectOnSpareHost(group: Group, model: Member, deadline: number): Task<void> {
  const member = spareMemberOf(group, model);
  try {
    yield* join(group, member, deadline);
  } finally {
    model.login.learnRefusals(member.login);
    model.login.learnPin(member.login);
    endSpareHost(member);
  }
}

function spareMemberOf(group: Group, model: Member): Member {
  const member = new Member({ ...model.config, lanes: 1 }, group.port, group.timing, () => {});
  member.serial = model.serial;
  member.login.copyFrom(model.login);
  return member;
}

/** Joins a member that serves nobody, and repeats failed joins until the deadline; returns the last failure, if any. */
export function* joinOnSpareHost(
  group: Group,
  member: Member,
  deadline: number,
): Task<Extract<JoinResult, { readonly ok: false }> | undefined> {
  const { port, policy } = group;
  let isHandedOver = false;
  try {
    for (let failures = 1; ; failures += 1) {
      const joined = yield* join(group, member, deadline);
      isHandedOver = joined.ok;
      if (joined.ok) return undefined;
      if (member.connection !== undefined) yield* member.connection.giveUp(policy);
      const retryAt = port.now() + rejoinAfter(failures, port.random());
      if (joined.lasting || retryAt >= deadline) return joined;
      yield* sleepUntil(retryAt);
    }
  } finally {
    // If the waiting task was ended, its host has to end too.
    if (!isHandedOver) endSpareHost(member);
  }
}

/** Ends a spare host; does nothing if it has ended already. */
export function endSpareHost({ connection }: Member): void {
  if (connection?.end === undefined) connection?.leave(NO_LIMITS);
}

/** Lists the tokens of a library on a host that ends afterwards and does not log in. */
export function* listTokens(group: Group, config: MemberConfig, deadline: number): Task<readonly FoundToken[]> {
  const member = new Member(config, group.port, group.timing, () => {});
  const connection = member.connect();
  try {
    yield* startLibrary(group, member, connection, deadline);
    return yield* tokensOf(connection, deadline);
  } finally {
    endSpareHost(member);
  }
}
