import type { Task } from '../base/task.js';
import { sleepUntil } from '../base/waiting.js';
import { readingRecords, runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import { stepLimit } from '../group/hang-limits.js';
import type { Member } from '../group/member.js';
import { recordsAt } from '../records/ledger.js';
import { compareWith, sourceFor } from './comparison.js';
import { takePositionOf } from './past.js';
import { failedBecause, type RecoveryFailure } from './recovery-result.js';

/** Number of tries to fill a member before the member serves without what could not be copied. */
const MOST_TRIES = 3;
/** Interval between looks at changes that are under way (ms). */
const LOOK_INTERVAL = 50;

/** Copies all objects to a new member. Returns the failure if the member may not serve yet. */
export function* fillMember(group: Group, member: Member): Task<RecoveryFailure | undefined> {
  const source = sourceFor(group, member);
  if (source === undefined) return failedBecause('no other member can give the member its objects');
  const beganAt = group.port.now();
  let lacking = yield* compareWith(group, member, source, 'copying');
  if (lacking !== undefined && !group.coordinator.isAlone()) {
    yield* awaitFormerChanges(group, member, beganAt);
    lacking = yield* compareWith(group, member, source, 'comparing');
  }
  if (lacking === undefined) return { kind: 'notCompared' };
  const tries = member.recovery.countFill();
  const isOver = lacking.length === 0 || tries >= MOST_TRIES;
  yield* takePositionOf(group, member, source, isOver);
  if (lacking.length === 0) return undefined;
  if (!isOver) return failedBecause(`${lacking.length} objects could not be copied yet`);
  // After the last try the member serves without keys that are neither extractable nor sealed.
  const objects = lacking.map(({ summary }) => summary);
  group.emit({ type: 'sync', member: member.name, what: 'lacking', objects });
  return undefined;
}

/**
 * Waits for the changes of processes that do not know the new member yet, and so write no journal entry for it: until
 * all have taken up the group record that names the member, and then for those changes that are under way.
 */
function* awaitFormerChanges(group: Group, member: Member, beganAt: number): Task<void> {
  const { port, policy } = group;
  member.explain('other processes take up the new member');
  yield* sleepUntil(beganAt + policy.freshness);
  const until = port.now() + stepLimit(policy);
  const former = yield* intentsOnOthers(group, member, until);
  for (let now = former; port.now() < until && [...former].some((name) => now.has(name)); ) {
    yield* sleepUntil(port.now() + LOOK_INTERVAL);
    now = yield* intentsOnOthers(group, member, until);
  }
}

/** Returns the names of the changes whose intents stand on other members that serve. */
function* intentsOnOthers(group: Group, member: Member, deadline: number): Task<ReadonlySet<string>> {
  const names = new Set<string>();
  for (const other of group.members) {
    if (other === member || !other.isServing) continue;
    const end = yield* runOnMember(group, other, readingRecords, deadline);
    if (end.kind !== 'done') continue;
    for (const { record } of recordsAt(group.ledger.trust, end.reply, 0).changes)
      if (record.kind === 'intent') names.add(record.operation);
  }
  return names;
}
