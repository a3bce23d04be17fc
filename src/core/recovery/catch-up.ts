import type { Task } from '../base/task.js';
import { isReachable } from '../call/member-job-run.js';
import { isComing } from '../group/coming.js';
import type { Group } from '../group/group.js';
import { isFailure } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { Pace } from '../group/pace.js';
import { Progress } from '../group/progress.js';
import { learnAllButChanges, learnMissedChanges, noticeMissedChange } from '../group/record-learning.js';
import { hex } from '../objects/note.js';
import { History } from '../records/history.js';
import type { RecordsFound } from '../records/ledger.js';
import { type ChangeRecord, changeIdOf, type DoneRecord, MOST_DEEDS, summariesOf } from '../records/record.js';
import { surveyKeyRecords, surveyMember } from '../replicas/survey.js';
import { writingRecords } from '../replication/record-job.js';
import type { ReconciliationResult, Reconciling } from './reconciling.js';
import { failedBecause, type RecoveryFailure } from './recovery-result.js';

/** Number of tries at a missed change before the member serves without it. */
const MOST_TRIES = 3;
/** Number of missed creations from which a survey of the whole token is cheaper than a search for each object. */
const SURVEY_FROM = 8;
/** Maximum number of entries in one done record. */
const DONE_BATCH = 32;
/** Number of journal entries for other members that one job writes. */
const NOTE_BATCH = 16;

/** Change that the member has missed, and the members that hold its journal entry. */
interface CatchUpEntry {
  readonly record: ChangeRecord;
  readonly holders: Member[];
}

function addEntry(entries: Map<string, CatchUpEntry>, record: ChangeRecord, holder: Member): void {
  const known = entries.get(record.operation);
  if (known === undefined) entries.set(record.operation, { record, holders: [holder] });
  else known.holders.push(holder);
}

type CatchUpResult = Omit<ReconciliationResult, 'heard'>;

/** Returns true if a member serves, or recovers: it may then give others what they lack. */
function mayServeSoon(member: Member): boolean {
  return member.isActive || (isReachable(member) && isComing(member));
}

/** Applies the changes that a member missed, in the order in which they happened. */
export class CatchUp {
  readonly #group: Group;
  readonly #member: Member;
  /** Journal entries of the reached members for other members than this one, by operation. */
  readonly #missedByOthers = new Map<string, CatchUpEntry>();
  /** Changes that this member has missed. */
  #missed: readonly ChangeRecord[] = [];
  /** Changes that are done and have no done record yet. */
  #done: ChangeRecord[] = [];
  readonly #heard = new Set<string>();

  constructor(
    readonly reconciliation: Reconciling,
    readonly own: RecordsFound,
  ) {
    this.#group = reconciliation.group;
    this.#member = reconciliation.member;
  }

  /** Catches up. If there is a `refusal`, does nothing, and returns the refusal if there is something to do. */
  *run(refusal: RecoveryFailure | undefined): Task<ReconciliationResult> {
    return { ...(yield* this.#catchUp(refusal)), heard: this.#heard };
  }

  *#catchUp(refusal: RecoveryFailure | undefined): Task<CatchUpResult> {
    const group = this.#group;
    const member = this.#member;
    const { serial, connection } = member;
    if (serial === undefined || connection === undefined) return { failure: undefined, done: 0 };
    const missed = yield* this.#missedBy(serial);
    const finished = new Set(this.own.done.flatMap(({ record }) => (record.serial === serial ? record.deeds : [])));
    const inOrder = missed.filter(({ record }) => !finished.has(changeIdOf(record)));
    // Another process may have made up for changes at which this one failed.
    const left = new Set(inOrder.map(({ record }) => record.operation));
    for (const operation of [...member.recovery.failedChanges.keys()])
      if (!left.has(operation)) member.recovery.forgetFailures(operation);
    if (refusal !== undefined && inOrder.length > 0) return { failure: refusal, done: 0 };
    if (inOrder.filter(({ record }) => record.what === 'create').length >= SURVEY_FROM) yield* this.#survey(inOrder);
    this.#missed = missed.map(({ record }) => record);
    this.#learnHistory(this.own);
    const { failure, done } = yield* this.#applyAll(inOrder, serial);
    // Changes that are done are noted also if a later one failed.
    const isNoted = connection.end === undefined && (yield* this.#noteDone(serial));
    if (failure !== undefined) return { failure, done };
    if (!isNoted)
      return { failure: failedBecause('the member could not note the changes that it caught up with'), done };
    if (refusal === undefined) yield* this.#noteForOthers(serial);
    // Serving members may have missed changes that only this member knows.
    for (const { record } of this.own.changes) noticeMissedChange(group, record, MOST_TRIES);
    return { failure: undefined, done };
  }

  *#applyAll(inOrder: readonly CatchUpEntry[], serial: string): Task<CatchUpResult> {
    const group = this.#group;
    const member = this.#member;
    const progress = new Progress(group, member.name, 'catching up', inOrder.length);
    const pace = new Pace(group);
    let done = 0;
    try {
      for (const entry of inOrder) {
        const { record } = entry;
        if (yield* this.#applyOne(entry, serial)) {
          done += 1;
          progress.advance();
          yield* pace.rest();
          continue;
        }
        // If a destroy failed, the member must not serve: it would still offer the destroyed key.
        if (record.what === 'destroy' || member.connection?.end !== undefined)
          return { failure: failedBecause('the member could not catch up in time'), done };
        const tries = member.recovery.countFailure(record.operation);
        // While another member serves, or is about to, there is time for more tries; after these the member serves
        // without the change.
        if (tries < MOST_TRIES && group.members.some((other) => other !== member && mayServeSoon(other)))
          return { failure: failedBecause('the member could not catch up yet'), done };
        if (record.what === 'create') member.recovery.giveUp(changeIdOf(record), record);
      }
      return { failure: undefined, done };
    } finally {
      this.#forgetSurveys();
      progress.finish();
    }
  }

  /** Returns the missed changes: journal entries of the reached members, and reversals that this process remembers. */
  *#missedBy(serial: string): Task<readonly CatchUpEntry[]> {
    const group = this.#group;
    const entries = new Map<string, CatchUpEntry>();
    for (const each of this.reconciliation.reached) {
      const records = each === this.#member ? this.own : yield* this.reconciliation.records(each);
      if (records === undefined) continue;
      if (each.serial !== undefined) this.#heard.add(each.serial);
      learnMissedChanges(group, each, records);
      // Another process may have written aliases since this process read them.
      learnAllButChanges(group, [records]);
      for (const { record } of records.changes) {
        if (record.kind !== 'journal') continue;
        if (each !== this.#member) addEntry(this.#missedByOthers, record, each);
        if (record.missed.includes(serial)) addEntry(entries, record, each);
      }
    }
    for (const record of group.owedReversals.values()) {
      if (record.missed.includes(serial) && !entries.has(record.operation))
        entries.set(record.operation, { record, holders: [] });
    }
    return [...entries.values()].sort((a, b) => a.record.time - b.record.time);
  }

  /** Notes on this member what others still miss: the members that know it may be away when these come back. */
  *#noteForOthers(serial: string): Task<void> {
    const group = this.#group;
    const member = this.#member;
    const own = new Set(this.own.changes.map(({ record }) => record.operation));
    const notes = [...this.#missedByOthers.values()].flatMap(({ record }) => {
      const missed = group.missing(record).filter((each) => each !== serial);
      return missed.length === 0 || own.has(record.operation) ? [] : [{ ...record, missed }];
    });
    for (let at = 0; at < notes.length; at += NOTE_BATCH) {
      const batch = notes.slice(at, at + NOTE_BATCH);
      if (!(yield* this.reconciliation.run(member, writingRecords(batch)))) return;
      for (const record of batch) group.missed.note(record, [serial]);
    }
    if (notes.length > 0) yield* this.#removeOutdatedNotes(notes);
  }

  /** Removes notes whose entries another process removed meanwhile from all members that held them. */
  *#removeOutdatedNotes(notes: readonly ChangeRecord[]): Task<void> {
    const left = new Set<string>();
    const heard = new Set<Member>();
    for (const each of this.reconciliation.reached) {
      const records = each === this.#member ? undefined : yield* this.reconciliation.records(each);
      if (records === undefined) continue;
      heard.add(each);
      for (const { record } of records.changes) left.add(record.operation);
    }
    for (const record of notes) {
      const { holders = [] } = this.#missedByOthers.get(record.operation) ?? {};
      if (left.has(record.operation) || !holders.every((holder) => heard.has(holder))) continue;
      yield* this.reconciliation.remove(this.#member, record);
    }
  }

  /** Surveys this member, and a member that can give it what it lacks. */
  *#survey(entries: readonly CatchUpEntry[]): Task<void> {
    const { connection } = this.#member;
    const source = entries.flatMap(({ holders }) => holders).find(({ isActive }) => isActive)?.connection;
    if (connection === undefined) return;
    const pace = new Pace(this.#group);
    const own = yield* surveyMember(connection, pace);
    if (!isFailure(own)) connection.survey = { found: own, isWhole: true };
    const ownRecords = yield* surveyKeyRecords(connection, pace);
    if (!isFailure(ownRecords)) this.reconciliation.redo.ownKeyRecords = ownRecords;
    if (source === undefined) return;
    const theirs = yield* surveyMember(source, pace);
    if (!isFailure(theirs)) source.survey = { found: theirs, isWhole: false };
    const records = yield* surveyKeyRecords(source, pace);
    if (!isFailure(records)) this.reconciliation.redo.keyRecords = records;
  }

  #forgetSurveys(): void {
    for (const { connection } of this.#group.members) connection?.forgetSurvey();
    this.reconciliation.redo.keyRecords = undefined;
    this.reconciliation.redo.ownKeyRecords = undefined;
  }

  /** Takes in what has happened on the member, and what it has missed. */
  #learnHistory({ changes }: RecordsFound): void {
    const own = changes.flatMap(({ record }) => (record.kind === 'journal' ? [record] : []));
    // Entries that the member is done with count too: other changes may have come after them.
    this.reconciliation.redo.history = new History([...own, ...this.#missed]);
  }

  *#applyOne(entry: CatchUpEntry, serial: string): Task<boolean> {
    const group = this.#group;
    const member = this.#member;
    const { record } = entry;
    const { operation } = record;
    // If this member's own journal says that the call succeeded, a reversal of it is void.
    const isVoid = record.undoes === true && this.#hasHappened(record);
    if (record.what === 'set' && !isVoid) {
      // For another process the member may be in service: it may just have set the same attributes.
      const own = yield* this.reconciliation.records(member);
      if (own !== undefined) this.#learnHistory(own);
    }
    const left = isVoid ? undefined : this.reconciliation.redo.history.leftOf(record);
    if (left !== undefined && !(yield* this.reconciliation.redo.apply(left, member))) return false;
    const isOwed = group.owedReversals.has(operation);
    const missed = record.missed.filter((each) => each !== serial);
    if (isOwed && missed.length > 0 && !(yield* this.#note({ ...record, missed }, serial))) return false;
    group.owedReversals.delete(operation);
    // The intent goes before the journal entry: an intent without one would be undone.
    const intent = this.own.changes.find((own) => own.record.kind === 'intent' && own.record.operation === operation);
    if (intent !== undefined) yield* this.reconciliation.remove(member, intent.record);
    member.recovery.forgetFailures(operation);
    if (entry.holders.length > 0) this.#done.push(record);
    if (this.#done.length >= DONE_BATCH && !(yield* this.#noteDone(serial))) return false;
    group.emit({ type: 'sync', member: member.name, what: 'caught up', objects: summariesOf(record) });
    return true;
  }

  /** Notes on this member what only this process remembered: other members have still to undo a change. */
  *#note(record: ChangeRecord, serial: string): Task<boolean> {
    if (!(yield* this.reconciliation.run(this.#member, writingRecords([record])))) return false;
    this.#group.noteMissed(record, [serial]);
    return true;
  }

  #hasHappened({ operation }: ChangeRecord): boolean {
    return this.own.changes.some(
      ({ record }) => record.kind === 'journal' && record.undoes !== true && record.operation === operation,
    );
  }

  /** Notes on the member itself which entries it is done with, so that they are not applied again. */
  *#noteDone(serial: string): Task<boolean> {
    const { group } = this.reconciliation;
    if (this.#done.length === 0) return true;
    const records: DoneRecord[] = [];
    for (let from = 0; from < this.#done.length; from += MOST_DEEDS) {
      const deeds = this.#done.slice(from, from + MOST_DEEDS).map(changeIdOf);
      records.push({ kind: 'done', id: hex(group.port.randomBytes(8)), serial, deeds });
    }
    if (!(yield* this.reconciliation.run(this.#member, writingRecords(records)))) return false;
    for (const record of records) group.missed.learnDone(record);
    this.#done = [];
    return true;
  }
}
