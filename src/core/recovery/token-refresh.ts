import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import { CKA, CKO } from '../../spec/codes.js';
import { type Job, optional, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { awaitCompletion, runTogether } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { onToken } from '../jobs/job-builder.js';
import { endSpareHost, startSpareHost } from '../joining/spare-host.js';
import { RESERVED_LABEL } from '../objects/identity.js';

/** Whoever's sight cannot be cured in so many times `hangAfter` is believed as it is. */
const REFRESH_MULTIPLE = 5;

const template: readonly Attribute[] = [
  { type: CKA.class, value: ulongBytes(CKO.data) },
  { type: CKA.private, value: Uint8Array.of(0) },
  { type: CKA.label, value: Buffer.from(`${RESERVED_LABEL}probe`) },
  onToken,
];

const probe: Job = {
  steps: [
    // One that was left behind, by a host that ended in the middle, goes on the occasion.
    step('X_Find', template, 1, []),
    optional(step('C_DestroyObject', { step: 0 })),
    step('C_CreateObject', template),
    optional(step('C_DestroyObject', { step: 2 })),
  ],
  undo: true,
  longWrite: true,
  exclusive: true,
};

/**
 * Makes members' hosts see what others have made and destroyed. A SoftHSM process that makes an object takes the
 * token's new generation for one that it knows, and does not see what another process made just before, until somebody
 * writes once more. So a host of its own, which has nothing to see, writes on each of them: a
 * public object, which needs no login.
 */
export function* refreshTokens(group: Group, members: readonly Member[]): Task<void> {
  const { port, policy } = group;
  const until = port.now() + policy.hangAfter * REFRESH_MULTIPLE;
  const blind = members.filter((member) => member.writesExclusively && member.connection !== undefined);
  yield* runTogether(
    group,
    blind.map((member) => refreshToken(group, member, until)),
  );
}

function* refreshToken(group: Group, member: Member, until: number): Task<void> {
  const spare = yield* startSpareHost(group, member, until, false);
  if (typeof spare === 'string') return;
  try {
    const { connection } = spare;
    if (connection === undefined) return;
    const ticket = connection.submit(probe, 'probe', until);
    yield* awaitCompletion(group.port, ticket, until);
  } finally {
    endSpareHost(spare);
  }
}
