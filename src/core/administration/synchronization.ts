import type { Task } from '../base/task.js';
import type { HeldClaim } from '../coordination/coordinator.js';
import { whileClaimed } from '../group/claimed-work.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { learnSomeRecords } from '../group/record-learning.js';
import { awaitRecoveryClaim } from '../recovery/recovery.js';
import { type Difference, DifferenceRepair } from './difference-repair.js';
import { type MemberSnapshot, takeSnapshot } from './member-snapshot.js';
import { recordOf, resealAndRetire } from './membership.js';

/** Result of `synchronize`. */
export interface SynchronizationReport {
  readonly dryRun: boolean;
  /** Members that were compared, with the number of their objects. */
  readonly members: readonly { readonly name: string; readonly objects: number }[];
  /** Members that could not be compared. */
  readonly away: readonly string[];
  readonly differences: readonly Difference[];
}

/** Compares all objects of the members in service, each member on a spare host, and repairs the differences. */
export function* synchronize(
  group: Group,
  options: { readonly dryRun: boolean },
  deadline: number,
): Task<SynchronizationReport> {
  recordOf(group);
  const claims: HeldClaim[] = [];
  try {
    const present = group.members.filter((member) => member.isActive || member.state.name === 'standby');
    // Claim every member before its spare host starts, so that no other process repairs the same objects.
    // Claim in the order of serials, so that two processes cannot block each other.
    const inOrder = [...present].sort((a, b) => ((a.serial ?? '') < (b.serial ?? '') ? -1 : 1));
    for (const member of inOrder) claims.push(yield* awaitRecoveryClaim(group, member, deadline));
    return yield* whileClaimed(group, claims, compareAll(group, present, options, deadline));
  } finally {
    for (const claim of claims) claim.release();
  }
}

function* compareAll(
  group: Group,
  present: readonly Member[],
  { dryRun }: { readonly dryRun: boolean },
  deadline: number,
): Task<SynchronizationReport> {
  const away = group.members.filter((member) => !present.includes(member)).map(({ name }) => name);
  const snapshots: MemberSnapshot[] = [];
  for (const member of present) {
    const snapshot = yield* takeSnapshot(group, member, deadline);
    if (snapshot === undefined) away.push(member.name);
    else snapshots.push(snapshot);
  }
  for (const { records } of snapshots) learnSomeRecords(group, [records]);
  const repair = new DifferenceRepair(group, snapshots, dryRun, deadline);
  yield* repair.run();
  if (!dryRun) yield* resealAndRetire(group, deadline);
  return {
    dryRun,
    members: snapshots.map(({ member, count }) => ({ name: member.name, objects: count })),
    away,
    differences: repair.differences,
  };
}
