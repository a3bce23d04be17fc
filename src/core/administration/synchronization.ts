import { codeName } from '../../spec/constants.js';
import { sameBytes } from '../base/bytes.js';
import type { ObjectSummary } from '../base/event.js';
import type { Task } from '../base/task.js';
import { findObjects } from '../call/find.js';
import { isReachable, runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import { PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { Progress } from '../group/progress.js';
import { JobBuilder } from '../jobs/job-builder.js';
import type { MemberJob } from '../jobs/member-job.js';
import { isProvenByIdentity, templateOf } from '../objects/identity.js';
import type { KeyRecord } from '../objects/key-note.js';
import { objectOf } from '../objects/note.js';
import { areOfOneKey, type VirtualObject } from '../objects/object.js';
import { removePartialObjects } from '../recovery/partial-object.js';
import { awaitClaim } from '../recovery/recovery.js';
import { relearnKeyRecord } from '../replicas/key-record.js';
import { establishReference } from '../replicas/reference.js';
import { resolveKey } from '../replicas/resolve.js';
import { aliasOf } from '../replication/naming.js';
import { copyReplicaTo } from '../replication/replica-copy.js';
import {
  type KeyCopies,
  keyCopiesIn,
  keyOf,
  type MemberSnapshot,
  type SnapshotEntry,
  takeSnapshot,
} from './member-snapshot.js';
import { recordOf, resealAndRetire } from './membership.js';

/** One object is waited for so many times `hangAfter`, besides its write. */
const COPY_MULTIPLE = 2;

/**
 * What is different on a member. `missing`: it lacks what the others have. `misaligned`: it has another key by that
 * name. `twins`: several keys go by one name, and no record says which handle is whose. `foreign`: it has what the
 * group has destroyed since, or another key of a name of the group's. `hollow`: what interrupted writes have left.
 */
export type DifferenceKind = 'missing' | 'misaligned' | 'twins' | 'foreign' | 'hollow';

export interface Difference {
  readonly kind: DifferenceKind;
  readonly member: string;
  /** Handle 0 where the group gives it none. */
  readonly object: ObjectSummary;
  /** `reported`: nothing was to be done, or nothing was to be done now (`dryRun`). */
  readonly action: 'repaired' | 'reported' | 'failed';
  /** Why nothing was done. */
  readonly reason: string;
}

export interface SynchronizationReport {
  readonly dryRun: boolean;
  /** The members that were compared, with the number of their objects. */
  readonly members: readonly { readonly name: string; readonly objects: number }[];
  /** Those that were not there. */
  readonly away: readonly string[];
  readonly differences: readonly Difference[];
}

function summaryOf({ found: { description } }: SnapshotEntry, handle: number): ObjectSummary {
  return {
    handle,
    label: Buffer.from(description.label).toString(),
    id: Buffer.from(description.id).toString('hex'),
  };
}

/** Compares all that the members in service have, each on a host of its own, and repairs what is different. */
export function* synchronize(
  group: Group,
  options: { readonly dryRun: boolean },
  deadline: number,
): Task<SynchronizationReport> {
  recordOf(group);
  const claims: (() => void)[] = [];
  try {
    const present = group.members.filter((member) => member.isActive || member.state.name === 'standby');
    // Nobody else repairs the same meanwhile; the hosts that look start after that.
    // All in one order, so that two processes do not wait for each other.
    const inOrder = [...present].sort((a, b) => ((a.serial ?? '') < (b.serial ?? '') ? -1 : 1));
    for (const member of inOrder) claims.push(yield* awaitClaim(group, member, deadline));
    return yield* compareAll(group, present, options, deadline);
  } finally {
    for (const release of claims) release();
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
  for (const { records } of snapshots) group.learnSome([records]);
  const synchronization = new Synchronization(group, snapshots, dryRun, deadline);
  yield* synchronization.run();
  if (!dryRun) yield* resealAndRetire(group, deadline);
  return {
    dryRun,
    members: snapshots.map(({ member, count }) => ({ name: member.name, objects: count })),
    away,
    differences: synchronization.differences,
  };
}

class Synchronization {
  readonly differences: Difference[] = [];
  /** The records of keys, of whichever member, by the identity of what they are about. */
  readonly #recordsByIdentity = new Map<string, KeyRecord[]>();

  constructor(
    readonly group: Group,
    readonly snapshots: readonly MemberSnapshot[],
    readonly dryRun: boolean,
    readonly deadline: number,
  ) {
    const handles = new Set<number>();
    for (const { keyRecords } of snapshots) {
      for (const [handle, record] of keyRecords) {
        if (handles.has(handle)) continue;
        handles.add(handle);
        const key = keyOf(objectOf(record.note).identity);
        this.#recordsByIdentity.set(key, [...(this.#recordsByIdentity.get(key) ?? []), record]);
      }
    }
  }

  *run(): Task<void> {
    const identities = new Set(this.snapshots.flatMap(({ byIdentity }) => [...byIdentity.keys()]));
    const progress = new Progress(this.group, 'all', 'comparing', identities.size);
    for (const identity of identities) {
      yield* this.#compare(identity);
      progress.advance();
    }
    progress.finish();
    for (const snapshot of this.snapshots) yield* this.#sweep(snapshot);
  }

  /** The record that the group keeps of a key. */
  #recordOf(identity: string, { proofs }: SnapshotEntry): KeyRecord | undefined {
    return this.#recordsByIdentity.get(identity)?.find(({ note }) => areOfOneKey(objectOf(note).reference, proofs));
  }

  *#compare(identity: string): Task<void> {
    const clusters = keyCopiesIn(this.snapshots, identity);
    const [first] = clusters;
    if (first === undefined) return;
    const isKnown = (copies: KeyCopies): boolean => this.#recordOf(identity, copies.entry) !== undefined;
    // Of several keys of one name that nobody has a record of, the group's is that of the first member.
    const reference = clusters.find(isKnown) ?? first;
    for (const cluster of clusters) {
      const most = Math.max(...cluster.counts.values());
      const lacking = this.snapshots.filter((snapshot) => (cluster.counts.get(snapshot) ?? 0) < most);
      if (lacking.length === 0) continue;
      const isStray = cluster !== reference && !isKnown(cluster);
      const isForeign = isStray || this.#isDestroyed(identity, cluster, lacking);
      for (const picture of isForeign ? this.snapshots.filter((each) => cluster.counts.has(each)) : lacking) {
        const others = clusters.some((other) => other !== cluster && other.counts.has(picture));
        const kind = isForeign ? 'foreign' : others ? 'misaligned' : 'missing';
        yield* this.#repair(kind, picture, cluster, most);
      }
    }
    if (clusters.length > 1 && clusters.every(({ counts }) => counts.size === this.snapshots.length))
      yield* this.#nameTwins(clusters);
  }

  /**
   * Whether those that lack a key of the group have seen it go: they have neither the key nor its record, and have
   * records that are newer. Who has it then comes from the past.
   */
  #isDestroyed(identity: string, { entry, counts }: KeyCopies, lacking: readonly MemberSnapshot[]): boolean {
    const record = this.#recordOf(identity, entry);
    if (record === undefined) return false;
    return lacking.some(
      (snapshot) =>
        !counts.has(snapshot) && !snapshot.keyRecords.has(record.note.handle) && snapshot.newest > record.time,
    );
  }

  #note(kind: DifferenceKind, member: string, object: ObjectSummary, action: Difference['action'], reason = ''): void {
    this.differences.push({ kind, member, object, action, reason });
  }

  *#repair(
    kind: 'missing' | 'misaligned' | 'foreign',
    { member }: MemberSnapshot,
    copies: KeyCopies,
    most: number,
  ): Task<void> {
    const { group, deadline } = this;
    const { entry } = copies;
    const { name } = member;
    if (kind === 'foreign') {
      this.#note(kind, name, summaryOf(entry, 0), 'reported', 'it is not spread, and nothing is destroyed');
      return;
    }
    const objects = yield* this.#objectsOf(entry);
    const summary = objects[0]?.summary ?? summaryOf(entry, 0);
    if (this.dryRun) {
      this.#note(kind, name, summary, 'reported');
      return;
    }
    if (group.policy.replication === 'external' && !isProvenByIdentity(entry.found.description)) {
      this.#note(kind, name, summary, 'reported', "keys are copied by the vendor's own tool");
      return;
    }
    try {
      let given = 0;
      for (const object of objects.slice(0, most)) {
        if (yield* this.#give(object, member)) given += 1;
      }
      if (kind === 'misaligned') for (const object of objects) yield* this.#writeAlias(object);
      if (given > 0) this.#note(kind, name, summary, 'repaired');
      else
        this.#note(
          kind,
          name,
          summary,
          'failed',
          'no member could give it: it cannot be taken out, and no sealed form was kept',
        );
    } catch (error) {
      if (group.port.now() >= deadline) throw error;
      const code = (error as { code?: unknown }).code;
      this.#note(kind, name, summary, 'failed', typeof code === 'number' ? codeName(code) : String(error));
    }
  }

  /** The virtual objects of a key: one, or several where there are copies. */
  *#objectsOf({ found, proofs }: SnapshotEntry): Task<readonly VirtualObject[]> {
    const { group } = this;
    const all = yield* findObjects(group, templateOf(found.description), this.deadline);
    const same = all.filter(({ identity }) => sameBytes(identity, found.identity));
    const ofKey: VirtualObject[] = [];
    for (const object of same) {
      if (!object.referenced && !isProvenByIdentity(object.description))
        yield* establishReference(group, object, new PendingWork());
      if (areOfOneKey(object.reference, proofs) || isProvenByIdentity(object.description)) ofKey.push(object);
    }
    return ofKey;
  }

  /** Puts an object on a member, where that does not have it after all. */
  *#give(object: VirtualObject, member: Member): Task<boolean> {
    const { group } = this;
    const { connection } = member;
    if (connection === undefined || !isReachable(member)) return false;
    connection.replicas.delete(object);
    if ((yield* resolveKey(group, member, connection, object, new PendingWork())) instanceof Uint8Array) return false;
    yield* relearnKeyRecord(group, object);
    const until = group.port.now() + group.policy.hangAfter * COPY_MULTIPLE + group.policy.writeHangAfter;
    return yield* copyReplicaTo(group, object, member, Math.min(until, this.deadline));
  }

  /** Twins whose handles stand nowhere get records that tell them apart for good. */
  *#nameTwins(clusters: readonly KeyCopies[]): Task<void> {
    const { group } = this;
    for (const { entry } of clusters) {
      for (const object of yield* this.#objectsOf(entry)) {
        if (group.ledger.hasAliases(object.handle)) continue;
        for (const { member } of this.snapshots)
          this.#note('twins', member.name, object.summary, this.dryRun ? 'reported' : 'repaired');
        if (!this.dryRun) yield* this.#writeAlias(object);
      }
    }
  }

  *#writeAlias(object: VirtualObject): Task<void> {
    const { group } = this;
    if (group.ledger.hasAliases(object.handle)) return;
    const alias = aliasOf(group, object);
    const builder = new JobBuilder();
    builder.addRecord(alias);
    for (const { member } of this.snapshots) {
      if (!isReachable(member)) continue;
      const memberJob: MemberJob = { function: 'C_CreateObject', objects: [], job: () => ({ steps: builder.steps }) };
      yield* runOnMember(group, member, memberJob, this.deadline);
    }
    group.objects.learnAliases(group.ledger.addAlias(alias));
  }

  *#sweep({ member, hollow }: MemberSnapshot): Task<void> {
    if (hollow === 0 || member.connection === undefined) return;
    const summary: ObjectSummary = { handle: 0, label: '', id: '' };
    if (!this.dryRun) yield* removePartialObjects(this.group, member, member.connection);
    for (let i = 0; i < hollow; i += 1)
      this.#note('hollow', member.name, summary, this.dryRun ? 'reported' : 'repaired');
  }
}
