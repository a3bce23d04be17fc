import { codeName } from '../../spec/constants.js';
import { sameBytes } from '../base/bytes.js';
import type { ObjectSummary } from '../base/event.js';
import type { Task } from '../base/task.js';
import { findObjects } from '../call/find.js';
import { isReachable, runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import { stepLimit } from '../group/hang-limits.js';
import { PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { Progress } from '../group/progress.js';
import { JobBuilder } from '../jobs/job-builder.js';
import type { MemberJob } from '../jobs/member-job.js';
import { isProvenByIdentity, keyOf, templateOf } from '../objects/identity.js';
import type { KeyRecord } from '../objects/key-note.js';
import { objectOf } from '../objects/note.js';
import { areOfOneKey, type VirtualObject } from '../objects/object.js';
import { FIRST_FORMAT } from '../records/record.js';
import { removePartialObjects } from '../recovery/partial-object.js';
import { Removal } from '../recovery/removal.js';
import { destroyOf, isGoneOn } from '../recovery/tombstone-spread.js';
import { relearnKeyRecord } from '../replicas/key-record.js';
import { establishReference } from '../replicas/reference.js';
import { resolveKey } from '../replicas/resolve.js';
import { learnWritten } from '../replication/installation-on-all.js';
import { aliasOf } from '../replication/naming.js';
import { copyReplicaTo } from '../replication/replica-copy.js';
import { type KeyCopies, keyCopiesIn, type MemberSnapshot, type SnapshotEntry } from './member-snapshot.js';

/** Multiple of `hangAfter` that the copy of an object may take, besides its write. */
const COPY_MULTIPLE = 2;

/**
 * Kind of a difference between members. `missing`: the member lacks an object that others have. `misaligned`: the
 * member has another key under the name. `twins`: several keys have one name, and no record tells their handles apart.
 * `destroyed`: the member has a key that the group has destroyed, as a tombstone on another member proves. `foreign`: the
 * member has another key under a name of the group. `hollow`: the member has a partial object of an interrupted write.
 */
export type DifferenceKind = 'missing' | 'misaligned' | 'twins' | 'destroyed' | 'foreign' | 'hollow';

/** Difference that was found on a member, and the action that was taken. */
export interface Difference {
  readonly kind: DifferenceKind;
  readonly member: string;
  /** Object; its handle is 0 if the group has no handle for it. */
  readonly object: ObjectSummary;
  /** Action; `reported`: synchronize does not repair the difference, or this is a dry run. */
  readonly action: 'repaired' | 'reported' | 'failed';
  /** Reason for the action; may be empty. */
  readonly reason: string;
}

/** Returns the reason for which no member could give an object. */
function reasonAgainstCopy({ found: { description } }: SnapshotEntry): string {
  return isProvenByIdentity(description)
    ? 'no member gave the object, or the member refused it'
    : 'no member can give the key: it is not extractable, and no sealed form was kept';
}

function summaryOf({ found: { description } }: SnapshotEntry, handle: number): ObjectSummary {
  return {
    handle,
    label: Buffer.from(description.label).toString(),
    id: Buffer.from(description.id).toString('hex'),
  };
}

/** Comparison and repair of member snapshots. */
export class DifferenceRepair {
  readonly differences: Difference[] = [];
  /** Key records of all members, by the identity of their keys. */
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
    for (const snapshot of this.snapshots) yield* this.#removePartial(snapshot);
  }

  /** Returns the key record of the key with this identity and these proofs. */
  #recordOf(identity: string, { proofs }: SnapshotEntry): KeyRecord | undefined {
    return this.#recordsByIdentity.get(identity)?.find(({ note }) => areOfOneKey(objectOf(note).reference, proofs));
  }

  *#compare(identity: string): Task<void> {
    const keys = keyCopiesIn(this.snapshots, identity);
    const [first] = keys;
    if (first === undefined) return;
    const isKnown = (copies: KeyCopies): boolean => this.#recordOf(identity, copies.entry) !== undefined;
    // If several keys have one name and none has a record, the key of the first member is the group's.
    const reference = keys.find(isKnown) ?? first;
    for (const copies of keys) {
      const most = Math.max(...copies.counts.values());
      const lacking = this.snapshots.filter((snapshot) => (copies.counts.get(snapshot) ?? 0) < most);
      if (lacking.length === 0) continue;
      const holders = this.snapshots.filter((each) => copies.counts.has(each));
      const destroyed = this.#destroyedKey(identity, copies, lacking);
      if (destroyed !== undefined) {
        for (const { member } of holders) yield* this.#destroy(member, destroyed, copies.entry);
        continue;
      }
      const isUnknown = copies !== reference && !isKnown(copies);
      const isForeign = isUnknown || this.#seemsDestroyed(identity, copies, lacking);
      for (const snapshot of isForeign ? holders : lacking) {
        const others = keys.some((other) => other !== copies && other.counts.has(snapshot));
        const kind = isForeign ? 'foreign' : others ? 'misaligned' : 'missing';
        yield* this.#repair(kind, snapshot, copies, most);
      }
    }
    if (keys.length > 1 && keys.every(({ counts }) => counts.size === this.snapshots.length))
      yield* this.#nameTwins(keys);
  }

  /**
   * Returns the record of a key that a member has a tombstone of. A member that still has the key then holds an old
   * state, as after a token was restored.
   */
  #destroyedKey(identity: string, { entry }: KeyCopies, lacking: readonly MemberSnapshot[]): KeyRecord | undefined {
    const record = this.#recordOf(identity, entry);
    if (record === undefined) return undefined;
    const key = { handle: record.note.handle, reference: objectOf(record.note).reference };
    // A key that was restored after its destroy has a later record on some member.
    const times = this.snapshots.map(({ keyRecords }) => keyRecords.get(key.handle)?.time ?? 0);
    const latest = Math.max(record.time, ...times);
    const isGone = lacking.some(({ keyRecords, gone }) => isGoneOn({ live: keyRecords, gone }, key, latest));
    return isGone ? record : undefined;
  }

  /**
   * Returns true if a key may have been destroyed, in a group of record format 1, which has no tombstones: a member has
   * neither the key nor its record, but newer records.
   */
  #seemsDestroyed(identity: string, { entry, counts }: KeyCopies, lacking: readonly MemberSnapshot[]): boolean {
    const record = this.#recordOf(identity, entry);
    if (record === undefined || this.group.ledger.format > FIRST_FORMAT) return false;
    return lacking.some(
      (snapshot) =>
        !counts.has(snapshot) && !snapshot.keyRecords.has(record.note.handle) && snapshot.newest > record.time,
    );
  }

  /** Destroys a key that the group has destroyed, on a member that still has it. */
  *#destroy(member: Member, record: KeyRecord, entry: SnapshotEntry): Task<void> {
    const { group, deadline } = this;
    const summary = summaryOf(entry, record.note.handle);
    if (this.dryRun) {
      this.#note('destroyed', member.name, summary, 'reported');
      return;
    }
    const removal = new Removal(group, () => Math.min(deadline, group.port.now() + stepLimit(group.policy)));
    try {
      const isGone = yield* removal.remove(objectOf(record.note), destroyOf(group, record), member);
      const reason = isGone ? '' : 'the member did not destroy the key, or the key could not be proven';
      this.#note('destroyed', member.name, summary, isGone ? 'repaired' : 'failed', reason);
    } catch (error) {
      if (group.port.now() >= deadline) throw error;
      this.#note('destroyed', member.name, summary, 'failed', String(error));
    }
  }

  #note(kind: DifferenceKind, member: string, object: ObjectSummary, action: Difference['action'], reason = ''): void {
    this.differences.push({ kind, member, object, action, reason });
  }

  *#repair(
    kind: 'missing' | 'misaligned' | 'foreign',
    { member }: MemberSnapshot,
    { entry }: KeyCopies,
    most: number,
  ): Task<void> {
    const { name } = member;
    if (kind === 'foreign') {
      const reason = 'synchronize neither copies nor destroys a foreign object';
      this.#note(kind, name, summaryOf(entry, 0), 'reported', reason);
      return;
    }
    const objects = yield* this.#objectsOf(entry);
    const summary = objects[0]?.summary ?? summaryOf(entry, 0);
    if (this.dryRun) {
      this.#note(kind, name, summary, 'reported');
      return;
    }
    if (this.group.policy.replication === 'external' && !isProvenByIdentity(entry.found.description)) {
      const reason = "policy.replication is external: copy the key with the vendor's own tool";
      this.#note(kind, name, summary, 'reported', reason);
      return;
    }
    try {
      const copied = yield* this.#copyAllTo(objects.slice(0, most), member);
      if (kind === 'misaligned') for (const object of objects) yield* this.#writeAlias(object);
      this.#note(kind, name, summary, copied ? 'repaired' : 'failed', copied ? '' : reasonAgainstCopy(entry));
    } catch (error) {
      if (this.group.port.now() >= this.deadline) throw error;
      const code = (error as { code?: unknown }).code;
      this.#note(kind, name, summary, 'failed', typeof code === 'number' ? codeName(code) : String(error));
    }
  }

  /** Copies objects to a member; returns true if at least one was copied. */
  *#copyAllTo(objects: readonly VirtualObject[], member: Member): Task<boolean> {
    let isCopied = false;
    for (const object of objects) if (yield* this.#copyTo(object, member)) isCopied = true;
    return isCopied;
  }

  /** Returns the virtual objects of a key: several if the key has copies. */
  *#objectsOf({ found, proofs }: SnapshotEntry): Task<readonly VirtualObject[]> {
    const { group } = this;
    const all = yield* findObjects(group, templateOf(found.description), this.deadline);
    const ofIdentity = all.filter(({ identity }) => sameBytes(identity, found.identity));
    const ofKey: VirtualObject[] = [];
    for (const object of ofIdentity) {
      if (!object.referenced && !isProvenByIdentity(object.description))
        yield* establishReference(group, object, new PendingWork());
      if (areOfOneKey(object.reference, proofs) || isProvenByIdentity(object.description)) ofKey.push(object);
    }
    return ofKey;
  }

  /** Copies an object to a member, unless the member turns out to have it; returns true if it was copied. */
  *#copyTo(object: VirtualObject, member: Member): Task<boolean> {
    const { group } = this;
    const { connection } = member;
    if (connection === undefined || !isReachable(member)) return false;
    connection.replicas.delete(object);
    if ((yield* resolveKey(group, member, connection, object, new PendingWork())) instanceof Uint8Array) return false;
    yield* relearnKeyRecord(group, object);
    const until = group.port.now() + group.policy.hangAfter * COPY_MULTIPLE + group.policy.writeHangAfter;
    return yield* copyReplicaTo(group, object, member, Math.min(until, this.deadline));
  }

  /**
   * Writes alias records for keys of one name whose handles no record tells apart. One key without a record keeps the
   * handle that follows from the name.
   */
  *#nameTwins(keys: readonly KeyCopies[]): Task<void> {
    const { group } = this;
    const unnamed: VirtualObject[] = [];
    for (const { entry } of keys) {
      for (const object of yield* this.#objectsOf(entry))
        if (!object.isRecorded && group.objects.aliasOf(object.handle) === undefined) unnamed.push(object);
    }
    if (unnamed.length === 1 && group.ledger.format > FIRST_FORMAT) return;
    for (const object of unnamed) {
      for (const { member } of this.snapshots)
        this.#note('twins', member.name, object.summary, this.dryRun ? 'reported' : 'repaired');
      if (!this.dryRun) yield* this.#writeAlias(object);
    }
  }

  *#writeAlias(object: VirtualObject): Task<void> {
    const { group } = this;
    if (object.isRecorded || group.objects.aliasOf(object.handle) !== undefined) return;
    const alias = aliasOf(group, object);
    const builder = new JobBuilder();
    builder.addRecord(alias);
    for (const { member } of this.snapshots) {
      if (!isReachable(member)) continue;
      const memberJob: MemberJob = { function: 'C_CreateObject', objects: [], job: () => ({ steps: builder.steps }) };
      yield* runOnMember(group, member, memberJob, this.deadline);
    }
    learnWritten(group, alias);
  }

  *#removePartial({ member, hollow }: MemberSnapshot): Task<void> {
    if (hollow === 0 || member.connection === undefined) return;
    const summary: ObjectSummary = { handle: 0, label: '', id: '' };
    if (!this.dryRun) yield* removePartialObjects(this.group, member, member.connection);
    for (let i = 0; i < hollow; i += 1)
      this.#note('hollow', member.name, summary, this.dryRun ? 'reported' : 'repaired');
  }
}
