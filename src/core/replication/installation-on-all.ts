import { CKR } from '../../spec/codes.js';
import type { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { runTogether } from '../base/waiting.js';
import type { MemberJobEnd } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { aliasIn, keyAliasIn } from '../group/record-learning.js';
import {
  Installation,
  type InstallationResult,
  type InstalledReplica,
  type PlannedReplica,
} from '../jobs/installation.js';
import type { Login } from '../jobs/member-job.js';
import { isProvenByIdentity } from '../objects/identity.js';
import { hex } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import type { AnyRecord } from '../records/record.js';
import { runMarked, writePosition } from './position-mark.js';
import type { ReplicatedChange } from './replicated-change.js';
import type { WrittenObjects } from './written-objects.js';

/** Result of an installation on one member. */
type InstallationOutcome =
  | { readonly kind: 'done'; readonly written: WrittenObjects; readonly result: InstallationResult }
  | { readonly kind: 'wrong'; readonly member: Member; readonly written: WrittenObjects }
  | { readonly kind: 'refused'; readonly member: Member; readonly end: MemberJobEnd & { readonly kind: 'refused' } }
  | { readonly kind: 'gone'; readonly member: Member; readonly begun: boolean };

/** Installs planned replicas and records on one member. */
export function* installOn(
  change: ReplicatedChange,
  member: Member,
  plannedReplicas: readonly PlannedReplica[],
  records: readonly AnyRecord[],
): Task<InstallationOutcome> {
  const installation = new Installation(change.group, member, change.functionName, plannedReplicas, records);
  const memberJob = installation.memberJob();
  if (memberJob === undefined) return { kind: 'gone', member, begun: false };
  const end = yield* runMarked(change, member, memberJob);
  if (end.kind === 'refused') return { kind: 'refused', member, end };
  if (end.kind !== 'done') return { kind: 'gone', member, begun: end.kind === 'gone' && end.begun };
  const result = installation.read(end.reply);
  const written: WrittenObjects = { member, login: end.login, handles: result.handles };
  return result.wrong === undefined ? { kind: 'done', written, result } : { kind: 'wrong', member, written };
}

/** Installs token objects on all members and commits the change; undoes it everywhere if too few members have them. */
export function* installAndCommit(
  change: ReplicatedChange,
  members: readonly Member[],
  objects: readonly VirtualObject[],
  plannedFor: (member: Member) => readonly PlannedReplica[],
  recordsFor: (member: Member) => readonly AnyRecord[],
): Task<void> {
  const { group } = change;
  const outcomes = yield* runTogether(
    group,
    members.map((member) => installOn(change, member, plannedFor(member), recordsFor(member))),
  );
  const done = outcomes.flatMap((outcome) => (outcome.kind === 'done' ? [outcome] : []));
  const problem = problemOf(change, outcomes, done.length);
  if (problem !== undefined) {
    const written = outcomes.flatMap((outcome) => ('written' in outcome ? [outcome.written] : []));
    const doubtful = outcomes.flatMap((outcome) => (outcome.kind === 'gone' && outcome.begun ? [outcome.member] : []));
    yield* change.undo(written, doubtful);
    // The change is void on all alike, so that none of the others is behind.
    const refusing = outcomes.flatMap((outcome) => (outcome.kind === 'refused' ? [outcome.member] : []));
    if (written.length > 0)
      for (const member of refusing) yield* writePosition(group, member, change.time ?? 0, change.cleanupBy);
    throw problem;
  }
  // Until a member holds that the creation has happened, the loss of all of them undoes it.
  change.isIrrevocable = true;
  yield* change.commit(
    done.map(({ written }) => written.member),
    objects,
  );
  for (const record of recordsFor(members[0] as Member)) {
    learnWritten(group, record);
  }
  for (const { written, result } of done) {
    for (const installed of result.installed) keepReplica(group, written.member, written.login, installed);
  }
}

/** Takes the alias that a written record gives. */
export function learnWritten({ objects }: Group, record: AnyRecord): void {
  const alias = record.kind === 'alias' ? aliasIn(record) : record.kind === 'key' ? keyAliasIn(record) : undefined;
  if (alias !== undefined) objects.addAlias(alias);
}

/** Returns the error if the objects are not on enough members; undefined if they are. */
export function problemOf(
  change: ReplicatedChange,
  outcomes: readonly InstallationOutcome[],
  done: number,
): TokenError | undefined {
  const { group } = change;
  for (const outcome of outcomes) {
    if (outcome.kind === 'wrong')
      return change.failure(CKR.functionFailed, `the key on ${outcome.member.name} is not the key that was made`);
    if (outcome.kind !== 'refused') continue;
    // If another member did the same, an ambiguous refusal is this member's own fault.
    if (outcome.end.verdict !== 'ambiguous' || done === 0) return change.refusalError(outcome.end);
    outcome.member.requireRecovery(`the member answered ${outcome.end.record.outcome}`);
  }
  const { durability } = group.policy;
  const needed = durability === 'all' ? 1 : durability;
  if (change.givenUp || group.port.now() >= change.deadline)
    return change.failure(CKR.functionFailed, 'the deadline passed before all members had the objects');
  if (done >= needed) return undefined;
  const explanation = `only ${done} of ${needed} required members have the objects: ${group.describeMembers()}`;
  return change.failure(CKR.deviceRemoved, explanation);
}

/** Remembers the handle of an installed replica, unless its login has ended. */
export function keepReplica(
  group: Group,
  member: Member,
  { connection, epoch }: Login,
  { planned, handle, proven }: InstalledReplica,
): void {
  if (connection !== member.connection || connection.epoch !== epoch) return;
  const { object } = planned;
  const isProven = proven || isProvenByIdentity(object.description);
  connection.replicas.set(object, { kind: 'usable', handle, proven: isProven });
  if (planned.token) connection.named.set(hex(handle), object);
  if (!planned.token) connection.sessionObjects.set(hex(handle), object);
  else group.noteReplicaStatus(member, object, isProven ? 'proven' : 'unproven');
}
