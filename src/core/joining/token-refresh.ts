import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import { CKA, CKO } from '../../spec/codes.js';
import { type Job, optional, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { awaitCompletion, runTogether } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { onToken } from '../jobs/job-builder.js';
import { RESERVED_LABEL } from '../objects/identity.js';
import { endSpareHost, startSpareHost } from './spare-host.js';

/** Time limit of a token refresh, as a multiple of `hangAfter`. Afterwards the token is read as it is. */
const REFRESH_MULTIPLE = 5;

const template: readonly Attribute[] = [
  { type: CKA.class, value: ulongBytes(CKO.data) },
  { type: CKA.private, value: Uint8Array.of(0) },
  { type: CKA.label, value: Buffer.from(`${RESERVED_LABEL}probe`) },
  onToken,
];

const probe: Job = {
  steps: [
    // Removes a probe object that an earlier host left behind.
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
 * Refreshes tokens, so that members' hosts see objects that other processes made and destroyed. A SoftHSM process that
 * writes takes the token's new generation for known, and misses a write of another process just before. The next write
 * by anyone else cures that. A spare host writes a public object, which needs no login.
 */
export function* refreshTokens(group: Group, members: readonly Member[]): Task<void> {
  const { port, policy } = group;
  const until = port.now() + policy.hangAfter * REFRESH_MULTIPLE;
  const exclusive = members.filter((member) => member.writesExclusively && member.connection !== undefined);
  yield* runTogether(
    group,
    exclusive.map((member) => refreshToken(group, member, until)),
  );
}

function* refreshToken(group: Group, member: Member, until: number): Task<void> {
  const start = yield* startSpareHost(group, member, until, false);
  if (start.kind === 'failed') return;
  const { member: spare } = start;
  try {
    const { connection } = spare;
    if (connection === undefined) return;
    const ticket = connection.submit(probe, 'probe', until);
    yield* awaitCompletion(group.port, ticket, until);
  } finally {
    endSpareHost(spare);
  }
}
