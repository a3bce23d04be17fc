import type { MechanismInfo, MechanismTable } from '../../spec/calls.js';
import { CKF, CKR } from '../../spec/codes.js';
import { resultOf, step } from '../../spec/job.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import { failureOf } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';

/** Flags that count only if every member has them: unwrapped and derived keys are made on each member. */
const ON_ALL = CKF.unwrap | CKF.derive;

/**
 * Returns the mechanisms that the group serves: those of any member, since calls are routed to a member that has them.
 * For unwrapping and derivation all members must have the mechanism. Each member is asked once for each time it came
 * into service.
 */
export function* mechanismsOf(group: Group, deadline: number): Task<MechanismTable> {
  for (;;) {
    const serving = group.members.filter(({ isServing }) => isServing);
    yield* learnAll(group, serving, deadline);
    const tables = serving.flatMap(({ mechanisms }) => mechanisms ?? []);
    // If no member serves, the tables that members gave before still count.
    const known = tables.length > 0 ? tables : group.members.flatMap(({ mechanisms }) => mechanisms ?? []);
    if (known.length > 0) return merge(known);
    if (group.isHopeless || group.port.now() >= deadline)
      throw new TokenError(CKR.deviceRemoved, 'C_GetMechanismList', `no member answered: ${group.describeMembers()}`);
    yield* race([group.changed], deadline);
  }
}

/** Returns the mechanisms of one member's token; none if the member does not answer in time. */
export function* mechanismsOn(group: Group, member: Member, deadline: number): Task<MechanismTable> {
  yield* learnAll(group, [member], deadline);
  return member.mechanisms ?? new Map();
}

/** Asks members for their tables; a member that does not answer in time is left out. */
function* learnAll({ port }: Group, members: readonly Member[], deadline: number): Task<void> {
  const running = members
    .filter(({ mechanisms }) => mechanisms === undefined)
    .map((member) => port.start(learn(member, deadline)));
  try {
    while (port.now() < deadline) {
      const late = running.filter(({ completed }) => !completed);
      if (late.length === 0) return;
      yield* race(late, deadline);
    }
  } finally {
    for (const each of running) if (!each.completed) each.cancel(undefined);
  }
}

/** Merges the tables of members. */
function merge(tables: readonly MechanismTable[]): MechanismTable {
  const merged = new Map<number, MechanismInfo>();
  for (const table of tables) {
    for (const [type, info] of table) {
      const known = merged.get(type);
      merged.set(type, known === undefined ? info : both(known, info));
    }
  }
  for (const [type, info] of merged) {
    const lacking = tables.filter((table) => !table.has(type)).length;
    if (lacking > 0) merged.set(type, { ...info, flags: info.flags & ~ON_ALL });
  }
  return merged;
}

function both(one: MechanismInfo, other: MechanismInfo): MechanismInfo {
  const everywhere = one.flags & other.flags & (ON_ALL | CKF.hw);
  return {
    shortestKey: Math.min(one.shortestKey, other.shortestKey),
    longestKey: Math.max(one.longestKey, other.longestKey),
    flags: (((one.flags | other.flags) & ~(ON_ALL | CKF.hw)) | everywhere) >>> 0,
  };
}

/** Asks a member for its table. */
function* learn(member: Member, deadline: number): Task<void> {
  const { connection } = member;
  if (connection === undefined) return;
  const { slot } = connection;
  const list = yield* connection.run(
    { steps: [step('C_GetMechanismList', slot)], sessionless: true },
    'mechanisms',
    deadline,
  );
  if (list.kind !== 'reply' || failureOf(list) !== undefined) return;
  const types = resultOf(list.reply, 0, 'C_GetMechanismList');
  const steps = types.map((type) => step('C_GetMechanismInfo', slot, type));
  const infos = yield* connection.run({ steps, sessionless: true }, 'mechanisms', deadline);
  if (infos.kind !== 'reply' || failureOf(infos) !== undefined) return;
  member.mechanisms = new Map(types.map((type, index) => [type, resultOf(infos.reply, index, 'C_GetMechanismInfo')]));
}
