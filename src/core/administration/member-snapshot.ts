import { resultOf, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { readingRecords, runOnMemberOrThrow } from '../call/member-job-run.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { isFailure, PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { Progress } from '../group/progress.js';
import type { MemberJob } from '../jobs/member-job.js';
import { endSpareHost, startSpareHost } from '../joining/spare-host.js';
import type { FoundReplica } from '../objects/found-object.js';
import { isProvenByIdentity, keyOf } from '../objects/identity.js';
import type { KeyRecord, ProofKind } from '../objects/key-note.js';
import { areOfOneKey } from '../objects/object.js';
import { type RecordsFound, recordsAt } from '../records/ledger.js';
import { proofsOf } from '../replicas/fingerprint.js';
import { surveyAllKeyRecords, surveyMember } from '../replicas/survey.js';

/** Object on a member, with its proofs. */
export interface SnapshotEntry {
  readonly found: FoundReplica;
  readonly proofs: ReadonlyMap<ProofKind, Uint8Array>;
}

/** All objects and records on a member's token, as a fresh host sees them. */
export interface MemberSnapshot {
  readonly member: Member;
  readonly byIdentity: ReadonlyMap<string, readonly SnapshotEntry[]>;
  /** Number of objects. */
  readonly count: number;
  readonly records: RecordsFound;
  /** Key records by virtual handle. */
  readonly keyRecords: ReadonlyMap<number, KeyRecord>;
  /** Tombstones by virtual handle: the records of keys that were destroyed. */
  readonly gone: ReadonlyMap<number, KeyRecord>;
  /** Number of partial objects. */
  readonly hollow: number;
  /** Time of the newest record on the token. */
  readonly newest: number;
}

/** Takes a snapshot of a member on a spare host; undefined if the member could not be asked. */
export function* takeSnapshot(group: Group, member: Member, deadline: number): Task<MemberSnapshot | undefined> {
  const start = yield* startSpareHost(group, member, deadline);
  if (start.kind === 'failed') return undefined;
  const { member: spare } = start;
  try {
    const { connection } = spare;
    if (connection === undefined) return undefined;
    const survey = yield* surveyMember(connection);
    const all = yield* surveyAllKeyRecords(connection);
    if (isFailure(survey) || isFailure(all)) return undefined;
    const { live: keyRecords, gone } = all;
    group.invalidRecords.note(member, 'keys', all.invalid);
    const records = recordsAt(group.ledger.trust, yield* runOnMemberOrThrow(group, spare, readingRecords, deadline), 0);
    const hollow = resultOf(
      yield* runOnMemberOrThrow(group, spare, findPartialObjects, deadline),
      0,
      'X_FindHollow',
    ).length;
    const progress = new Progress(group, member.name, 'comparing', survey.objects.length);
    const byIdentity = new Map<string, SnapshotEntry[]>();
    for (const found of survey.objects) {
      const entry = yield* prove(group, connection, found);
      if (entry === undefined) return undefined;
      byIdentity.set(keyOf(found.identity), [...(byIdentity.get(keyOf(found.identity)) ?? []), entry]);
      progress.advance();
    }
    progress.finish();
    const times = [...keyRecords.values(), ...records.aliases.map(({ record }) => record)].map(({ time }) => time);
    const newest = Math.max(records.group?.record.time ?? 0, ...times);
    return { member, byIdentity, count: survey.objects.length, records, keyRecords, gone, hollow, newest };
  } finally {
    endSpareHost(spare);
  }
}

const findPartialObjects: MemberJob = {
  function: 'C_FindObjects',
  objects: [],
  isReading: true,
  job: () => ({ steps: [step('X_FindHollow')] }),
};

function* prove(group: Group, connection: Connection, found: FoundReplica): Task<SnapshotEntry | undefined> {
  if (isProvenByIdentity(found.description)) return { found, proofs: new Map() };
  const proofs = yield* proofsOf(group, connection, found, new PendingWork());
  return isFailure(proofs) ? undefined : { found, proofs };
}

/** Key or public object, with the number of its copies on each member. */
export interface KeyCopies {
  readonly entry: SnapshotEntry;
  readonly counts: Map<MemberSnapshot, number>;
}

/** Groups the objects of an identity on all members by key. */
export function keyCopiesIn(snapshots: readonly MemberSnapshot[], identity: string): readonly KeyCopies[] {
  const found: KeyCopies[] = [];
  for (const snapshot of snapshots) {
    for (const entry of snapshot.byIdentity.get(identity) ?? []) {
      let copies = found.find((each) => areOfOneKey(each.entry.proofs, entry.proofs));
      if (copies === undefined) {
        copies = { entry, counts: new Map() };
        found.push(copies);
      }
      copies.counts.set(snapshot, (copies.counts.get(snapshot) ?? 0) + 1);
    }
  }
  return found;
}
