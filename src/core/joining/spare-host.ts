import { rejoinAfter } from '../base/backoff.js';
import type { Task } from '../base/task.js';
import { sleepUntil } from '../base/waiting.js';
import type { MemberConfig } from '../configuration/configuration.js';
import type { Group } from '../group/group.js';
import { Member } from '../group/member.js';
import { type JoinResult, join } from './join.js';
import { type FoundToken, startLibrary, tokensOf } from './library.js';

/** Nothing that runs there is charged. */
const NO_LIMITS = { hangAfter: 0, writeHangAfter: 0 } as const;

/**
 * Another host for a member's token, that serves nobody else: it sees the token as it is now. A token may not be seen
 * by a host that starts while another host of it does (SoftHSM), which is likely just after a crash: so it is tried
 * again, as a member is. Without `logsIn` nobody logs in there. Gives the reason when there can be none. Whoever gets it ends it.
 */
export function* startSpareHost(group: Group, model: Member, deadline: number, logsIn = true): Task<Member | string> {
  const member = spareFor(group, model);
  if (!logsIn) member.login.skip();
  try {
    return (yield* joinOnSpareHost(group, member, deadline))?.reason ?? member;
  } finally {
    if (logsIn) model.login.learnRefusals(member.login);
  }
}

/** Reads what the token of a member that does not serve says of the group, once. */
export function* inspectOnSpareHost(group: Group, model: Member, deadline: number): Task<void> {
  const member = spareFor(group, model);
  try {
    yield* join(group, member, deadline);
  } finally {
    model.login.learnRefusals(member.login);
    model.login.learnPin(member.login);
    endSpareHost(member);
  }
}

function spareFor(group: Group, model: Member): Member {
  const member = new Member({ ...model.config, lanes: 1 }, group.port, group.timing, () => {});
  member.serial = model.serial;
  member.login.copyFrom(model.login);
  return member;
}

/** Brings a member up that is none of those that serve. Gives why when that cannot be. */
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
    // Whoever wanted it may have left meanwhile.
    if (!isHandedOver) endSpareHost(member);
  }
}

export function endSpareHost({ connection }: Member): void {
  if (connection?.end === undefined) connection?.leave(NO_LIMITS);
}

/** The tokens that a library shows, looked at by a host of their own that does not stay; nobody logs in. */
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
