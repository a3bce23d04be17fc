import { CKA, CKO } from '../../spec/codes.js';
import type { Task } from '../base/task.js';
import { isReachable, readingRecords, runOnMember } from '../call/member-job-run.js';
import { ObjectMapping } from '../call/object-mapping.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { stepLimit } from '../group/hang-limits.js';
import { isFailure, PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { Pace } from '../group/pace.js';
import { Progress } from '../group/progress.js';
import {
  hasAliasRecord,
  keyAliasIn,
  knownAliasRecord,
  learnKeyAliases,
  learnSomeRecords,
} from '../group/record-learning.js';
import { isSecretRequest } from '../jobs/creation-request.js';
import type { FoundReplica, Survey } from '../objects/found-object.js';
import type { KeyRecord } from '../objects/key-note.js';
import { hex } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import { recordsAt } from '../records/ledger.js';
import { type AnyRecord, type DoneRecord, MOST_DEEDS } from '../records/record.js';
import { isShortOfCopies } from '../replicas/copies.js';
import { candidatesOn } from '../replicas/inventory.js';
import { learnKeyRecord } from '../replicas/key-record.js';
import { establishReference } from '../replicas/reference.js';
import { resolveKey } from '../replicas/resolve.js';
import { surveyAllKeyRecords, surveyKeyRecords, surveyMember } from '../replicas/survey.js';
import { changingAttributesTo } from '../replication/attribute-change-job.js';
import { writingRecords } from '../replication/record-job.js';
import { copyReplicaTo } from '../replication/replica-copy.js';
import { takePositionOf } from './past.js';
import type { RecoveryFailure } from './recovery-result.js';
import { RenamedObjects } from './renamed-object.js';
import { destroyGone, isGoneOn } from './tombstone-spread.js';

/** Time limit for copying one object besides its write, as a multiple of `hangAfter`. */
const COPY_MULTIPLE = 2;

/** Number of tries to compare a member before the member serves all the same. */
const MOST_TRIES = 3;

/** Returns the member to compare others with: one in step if possible. */
export function sourceFor(group: Group, member: Member): Member | undefined {
  const others = group.members.filter(
    (other) => other !== member && isReachable(other) && !group.ledger.isFilling(other.serial),
  );
  return (
    others.find(({ isActive, recovery }) => isActive && !recovery.isNeeded && recovery.failedChanges.size === 0) ??
    others.find(({ isActive }) => isActive) ??
    others.find(({ state }) => state.name === 'standby')
  );
}

/**
 * Compares a returning member with one in step: copies the objects that it lacks, and reports objects that only it has.
 * Returns a failure if they could not be compared; after a few failures in a row the member serves all the same.
 */
export function* compareWithOthers(group: Group, member: Member): Task<RecoveryFailure | undefined> {
  const source = sourceFor(group, member);
  if (source === undefined) return undefined;
  const lacking = yield* compareWith(group, member, source, 'comparing');
  const isCompared = lacking !== undefined;
  if (isCompared) yield* takePositionOf(group, member, source, lacking.length === 0);
  const failures = member.recovery.countComparison(isCompared);
  if (lacking?.length === 0) yield* noteGivenUp(group, member, source);
  return !isCompared && failures < MOST_TRIES ? { kind: 'notCompared' } : undefined;
}

/** Notes as done the creations that failed, after a comparison with a member that had them has shown no lack. */
function* noteGivenUp(group: Group, member: Member, source: Member): Task<void> {
  const { recovery, serial } = member;
  const told = [...recovery.givenUp].filter(([, record]) => !group.missing(record).includes(source.serial ?? ''));
  if (told.length === 0 || serial === undefined) return;
  const deeds = told.slice(0, MOST_DEEDS).map(([changeId]) => changeId);
  const record: DoneRecord = { kind: 'done', id: hex(group.port.randomBytes(8)), serial, deeds };
  const until = group.port.now() + stepLimit(group.policy);
  if ((yield* runOnMember(group, member, writingRecords([record]), until)).kind !== 'done') return;
  group.missed.learnDone(record);
  for (const changeId of deeds) recovery.forgetFailures(recovery.givenUp.get(changeId)?.operation ?? '');
}

/** Copies the objects that the member lacks; returns those that could not be copied, undefined without a comparison. */
export function* compareWith(
  group: Group,
  member: Member,
  source: Member,
  what: 'copying' | 'comparing',
): Task<readonly VirtualObject[] | undefined> {
  const target = member.connection;
  const giving = source.connection;
  if (target === undefined || giving === undefined) return undefined;
  const pace = new Pace(group);
  const theirs = yield* surveyMember(giving, pace);
  let own = yield* surveyMember(target, pace);
  if (isFailure(own) || isFailure(theirs)) return undefined;
  const beyond = (one: Survey, other: Survey): readonly FoundReplica[] =>
    one.objects.filter(({ identity }) => other.of(identity).length < one.of(identity).length);
  if (beyond(own, theirs).length > 0) {
    // The member may come from the past: what the others have destroyed since goes here too.
    if (yield* destroyGone(group, member, target, giving)) own = yield* surveyMember(target, pace);
    if (isFailure(own)) return undefined;
    const objects = beyond(own, theirs).map(({ description }) => ({
      handle: 0,
      label: Buffer.from(description.label).toString(),
      id: Buffer.from(description.id).toString('hex'),
    }));
    if (objects.length > 0) group.emit({ type: 'sync', member: member.name, what: 'foreign', objects });
  }
  const differing = beyond(theirs, own);
  if (differing.length === 0 && what === 'comparing') return [];
  target.survey = { found: own, isWhole: true };
  giving.survey = { found: theirs, isWhole: false };
  try {
    const wanted = what === 'copying' ? theirs.objects : differing;
    const copying = new Copying(group, member, source, target, giving, what === 'comparing');
    return yield* copying.run(theirs, wanted, what);
  } finally {
    giving.forgetSurvey();
    target.forgetSurvey();
  }
}

/** Copying of objects from one member to another. */
class Copying {
  readonly #renamedObjects: RenamedObjects;

  constructor(
    readonly group: Group,
    readonly member: Member,
    readonly source: Member,
    readonly target: Connection,
    readonly giving: Connection,
    /** True if other processes may work on the member too: each difference is then looked at once more. */
    readonly isShared: boolean,
  ) {
    this.#renamedObjects = new RenamedObjects(group, target, giving);
  }

  *run(
    theirs: Survey,
    wanted: Survey['objects'],
    what: 'copying' | 'comparing',
  ): Task<readonly VirtualObject[] | undefined> {
    const { group, source, giving } = this;
    // Other processes may have renamed objects; reread the aliases.
    const read = yield* runOnMember(group, source, readingRecords, group.port.now() + group.policy.hangAfter);
    if (read.kind !== 'done') return undefined;
    learnSomeRecords(group, [recordsAt(group.ledger.trust, read.reply, 0)]);
    const pace = new Pace(group);
    const records = yield* surveyKeyRecords(giving, pace);
    const allOwn = yield* surveyAllKeyRecords(this.target, pace);
    const ownRecords = isFailure(allOwn) ? allOwn : allOwn.live;
    if (!isFailure(allOwn)) group.invalidRecords.note(this.member, 'keys', allOwn.invalid);
    // Without the records keys would get other handles than they have.
    if (isFailure(records)) return undefined;
    learnKeyAliases(group, [...records.values()]);
    const aliases = [...records.values()].flatMap((record) => keyAliasIn(record) ?? []);
    const work = new PendingWork();
    work.epoch = theirs.epoch;
    const mapping = new ObjectMapping(group, source, giving, work);
    mapping.keyAliases = aliases;
    const objects = yield* mapping.toVirtual(wanted);
    if (isFailure(objects)) return undefined;
    const progress = new Progress(group, this.member.name, what, objects.length);
    const copied: VirtualObject[] = [];
    const lacking: VirtualObject[] = [];
    for (const object of objects) {
      if (this.target.end !== undefined) break;
      // If this member saw the key destroyed, the other one comes from the past: the key must not come back.
      const { time = 0 } = records.get(object.handle) ?? {};
      if (!isFailure(allOwn) && isGoneOn(allOwn, object, time)) continue;
      // The surveyed record replaces one from before a change by another process.
      if (time > (object.record?.time ?? 0)) object.record = records.get(object.handle);
      const outcome = yield* this.#copy(object, isFailure(ownRecords) ? undefined : ownRecords);
      if (outcome === 'copied') copied.push(object);
      if (outcome === 'lacking') lacking.push(object);
      progress.advance();
      if (outcome === 'copied') yield* pace.rest();
    }
    progress.finish();
    if (copied.length > 0)
      group.emit({
        type: 'sync',
        member: this.member.name,
        what: 'copied',
        objects: copied.map(({ summary }) => summary),
      });
    return lacking;
  }

  *#copy(
    object: VirtualObject,
    ownRecords: ReadonlyMap<number, KeyRecord> | undefined,
  ): Task<'there' | 'copied' | 'lacking'> {
    const { group, member, target } = this;
    const located = yield* resolveKey(group, member, target, object, new PendingWork());
    if (
      located instanceof Uint8Array &&
      !(yield* isShortOfCopies(group, target, this.giving, object, new PendingWork()))
    ) {
      yield* this.#completeRecords(object, ownRecords);
      return 'there';
    }
    const replica = target.replicas.get(object);
    // An object that could not be compared may be there: a copy could double it.
    if (replica === undefined) return 'lacking';
    if (group.policy.replication === 'external' && isSecretRequest(object.description)) return 'lacking';
    if (this.isShared) {
      const now = yield* this.#standingNow(object);
      if (now !== 'different') return now === 'alike' ? 'there' : 'lacking';
    }
    const until = group.port.now() + group.policy.hangAfter * COPY_MULTIPLE + group.policy.writeHangAfter;
    try {
      const end = yield* this.#rename(object, until);
      if (end !== 'not there') return end === 'renamed' ? 'there' : 'lacking';
      if (yield* copyReplicaTo(group, object, member, until)) return 'copied';
    } catch {
      // An error means that no member could give the object now.
    }
    // Another process may have destroyed or renamed the object meanwhile.
    return (yield* this.#standingNow(object)) === 'alike' ? 'there' : 'lacking';
  }

  /**
   * Renames the member's object if only its label or ID differs from the others'. An object that could not be read, or
   * renamed, may be there: a copy could double it.
   */
  *#rename(object: VirtualObject, until: number): Task<'renamed' | 'not there' | 'unknown'> {
    const { group, member } = this;
    yield* learnKeyRecord(group, object);
    if (!object.referenced) yield* establishReference(group, object, new PendingWork());
    const renamed = yield* this.#renamedObjects.find(object);
    if (renamed === undefined) return 'not there';
    if (renamed === 'unknown') return 'unknown';
    renamed.record = object.record;
    renamed.isRecorded = object.isRecorded;
    const { label, id } = object.description;
    const changes = [
      { type: CKA.label, value: label },
      ...(object.description.class === CKO.data ? [] : [{ type: CKA.id, value: id }]),
    ];
    const { memberJob } = changingAttributesTo(group, renamed, changes);
    return (yield* runOnMember(group, member, memberJob, until)).kind === 'done' ? 'renamed' : 'unknown';
  }

  /**
   * Tells whether the source still has more of the object than the member: between the two surveys another process may
   * have made or destroyed it. Objects that a call works on count as alike; `unknown` if a member cannot be asked.
   */
  *#standingNow(object: VirtualObject): Task<'different' | 'alike' | 'unknown'> {
    const { target, giving } = this;
    const surveys = [target.survey, giving.survey];
    target.forgetSurvey();
    giving.forgetSurvey();
    try {
      return yield* this.#compareNow(object);
    } finally {
      [target.survey, giving.survey] = surveys;
    }
  }

  *#compareNow(object: VirtualObject): Task<'different' | 'alike' | 'unknown'> {
    const { group, target, giving, source, member } = this;
    if (object.isDestroyed) return 'alike';
    for (const each of [source, member]) {
      const end = yield* runOnMember(group, each, readingRecords, group.port.now() + group.policy.hangAfter);
      if (end.kind !== 'done') return 'unknown';
      const { changes } = recordsAt(group.ledger.trust, end.reply, 0);
      const isOpen = changes.some(
        ({ record }) =>
          record.notes.some(({ handle }) => handle === object.handle) &&
          (record.kind === 'intent' || group.missing(record).length > 0),
      );
      if (isOpen) return 'alike';
    }
    const work = new PendingWork();
    const there = yield* candidatesOn(giving, object, work);
    const here = yield* candidatesOn(target, object, work);
    if (there.kind !== 'candidates' || here.kind !== 'candidates') return 'unknown';
    return there.list.length > here.list.length ? 'different' : 'alike';
  }

  /** Writes the records that an object lacks on the member: an earlier copy may have been interrupted. */
  *#completeRecords(object: VirtualObject, ownRecords: ReadonlyMap<number, KeyRecord> | undefined): Task<void> {
    const { group, member } = this;
    const missing: AnyRecord[] = [];
    const { record } = object;
    if (record !== undefined && record !== null && ownRecords?.has(object.handle) === false) missing.push(record);
    const alias = knownAliasRecord(group, object.handle);
    if (alias !== undefined && !hasAliasRecord(member, object.handle)) missing.push(alias);
    if (missing.length === 0) return;
    const until = group.port.now() + group.policy.hangAfter + group.policy.writeHangAfter;
    yield* runOnMember(group, member, writingRecords(missing), until);
  }
}
