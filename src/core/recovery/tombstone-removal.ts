import { NO_MAXIMUM } from '../../spec/calls.js';
import { CKA } from '../../spec/codes.js';
import { optional, resultOf, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { runTogether, sleepUntil } from '../base/waiting.js';
import { runOnMember } from '../call/member-job-run.js';
import { takeClaim, whileClaimed } from '../group/claimed-work.js';
import type { Group } from '../group/group.js';
import { stepLimit } from '../group/hang-limits.js';
import type { Member } from '../group/member.js';
import { findingJob, type MemberJob } from '../jobs/member-job.js';
import { FIRST_FORMAT } from '../records/record.js';
import { keyRecordTemplate } from '../records/record-template.js';
import { destroyedAt } from '../records/tombstone.js';

/** Number of tombstones that stay on a member: a member that was away for longer is compared with less certainty. */
const KEPT = 512;
/** Share of destroys after which a process looks for old tombstones: many programs destroy one key only. */
const LOOK_SHARE = 1 / 64;
/** Maximum number of tombstones that a look removes from a member: twice as many as are added from look to look. */
const MOST_REMOVED = 2 / LOOK_SHARE;
/** Maximum number of tombstones that one job removes. */
const BATCH = 8;
/** Rest after a removal, as a multiple of its duration (Rule 17). */
const REST_MULTIPLE = 4;

/**
 * Removes the oldest tombstones now and then, beside the application's calls. A process that closes the group waits for
 * it, or else programs that destroy one key each would never remove as many as they add.
 */
export function removeOldTombstones(group: Group): void {
  const { port, ledger } = group;
  if (ledger.format <= FIRST_FORMAT || port.random() >= LOOK_SHARE) return;
  group.keepAlive(port.start(removeExclusively(group)));
}

function* removeExclusively(group: Group): Task<void> {
  try {
    const claim = yield* takeClaim(group, 'journal', group.port.now());
    if (claim === undefined) return;
    try {
      yield* whileClaimed(group, [claim], removeFromAll(group));
    } finally {
      claim.release();
    }
  } catch {
    // Left to a later look.
  }
}

function* removeFromAll(group: Group): Task<void> {
  const active = group.members.filter(({ isActive }) => isActive);
  yield* runTogether(
    group,
    active.map((member) => removeFrom(group, member)),
  );
}

function* removeFrom(group: Group, member: Member): Task<void> {
  const { port, policy } = group;
  const limit = (): number => port.now() + stepLimit(policy);
  const found = yield* runOnMember(group, member, findingJob(keyRecordTemplate(), NO_MAXIMUM, [CKA.label]), limit());
  if (found.kind !== 'done') return;
  const tombstones = resultOf(found.reply, 0, 'X_Find').flatMap(({ handle, attributes: [label] }) => {
    const time = destroyedAt(label?.value);
    return time === undefined ? [] : [{ handle: new Uint8Array(handle), time }];
  });
  const old = tombstones
    .sort((a, b) => b.time - a.time)
    .slice(KEPT)
    .slice(-MOST_REMOVED);
  for (let at = 0; at < old.length; at += BATCH) {
    const steps = old.slice(at, at + BATCH).map(({ handle }) => optional(step('C_DestroyObject', handle)));
    const memberJob: MemberJob = {
      function: 'C_DestroyObject',
      objects: [],
      login: found.login,
      job: () => ({ steps }),
    };
    const startedAt = port.now();
    if ((yield* runOnMember(group, member, memberJob, limit())).kind !== 'done') return;
    yield* sleepUntil(port.now() + (port.now() - startedAt) * REST_MULTIPLE);
  }
}
