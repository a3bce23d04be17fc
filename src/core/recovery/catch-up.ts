import type { Task } from '../base/task.js';
import type { Group } from '../group/group.js';
import { isFailure } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { Pace } from '../group/pace.js';
import { Progress } from '../group/progress.js';
import { JobBuilder } from '../jobs/job-builder.js';
import type { MemberJob } from '../jobs/member-job.js';
import { hex } from '../objects/note.js';
import { History } from '../records/history.js';
import type { RecordsFound } from '../records/ledger.js';
import { type ChangeRecord, changeIdOf, type DoneRecord, summariesOf } from '../records/record.js';
import { surveyKeyRecords, surveyMember } from '../replicas/survey.js';
import type { ReconciliationResult, Reconciling } from './reconciling.js';

/** A member tries so often to make good what it has missed, each time that another one who knows of it is settled. */
const MOST_TRIES = 3;
/** With so many keys to get, it is looked once at all that is there, and not for each of them. */
const MANY = 8;
/** So many entries are noted as done at once. */
const DONE_BATCH = 32;
/** So many entries that others miss are noted at once. */
const NOTE_BATCH = 16;

/** A change that the member has missed, and who has it in writing. */
interface CatchUpEntry {
  readonly record: ChangeRecord;
  readonly holders: Member[];
}

type Done = Omit<ReconciliationResult, 'heard'>;

/** Does on a member what it has missed, in the order in which it happened. */
export class CatchUp {
  readonly #group: Group;
  readonly #member: Member;
  /** What the members that are there have in writing for others than this one, by operation. */
  readonly #missedByOthers = new Map<string, ChangeRecord>();
  /** What is done, and not yet noted as such. */
  #done: ChangeRecord[] = [];
  readonly #heard = new Set<string>();

  constructor(
    readonly settlement: Reconciling,
    readonly own: RecordsFound,
  ) {
    this.#group = settlement.group;
    this.#member = settlement.member;
  }

  /** With a `refusal` it does nothing, and that is the reason where there is something to do. */
  *run(refusal: string | undefined): Task<ReconciliationResult> {
    return { ...(yield* this.#catchUp(refusal)), heard: this.#heard };
  }

  *#catchUp(refusal: string | undefined): Task<Done> {
    const group = this.#group;
    const member = this.#member;
    const { serial, connection } = member;
    if (serial === undefined || connection === undefined) return { reason: undefined, done: 0 };
    const missed = yield* this.#missedBy(serial);
    const finished = new Set(this.own.done.flatMap(({ record }) => (record.serial === serial ? record.deeds : [])));
    const inOrder = missed.filter(({ record }) => !finished.has(changeIdOf(record)));
    if (refusal !== undefined && inOrder.length > 0) return { reason: refusal, done: 0 };
    if (inOrder.filter(({ record }) => record.what === 'create').length >= MANY) yield* this.#survey(inOrder);
    const own = this.own.changes.filter(({ record }) => record.kind === 'journal');
    // With what it has done before: others may have come later.
    this.settlement.redo.history = new History([...own, ...missed].map(({ record }) => record));
    const { reason, done } = yield* this.#work(inOrder, serial);
    // Also where it has come no further: that much is done.
    const isNoted = connection.end === undefined && (yield* this.#noteDone(serial));
    if (reason !== undefined) return { reason, done };
    if (!isNoted) return { reason: 'what it has caught up with could not be noted', done };
    if (refusal === undefined) yield* this.#noteForOthers(serial);
    // The other way round: who serves and has missed what only this member knows of.
    for (const { record } of this.own.changes) group.notice(record, MOST_TRIES);
    return { reason: undefined, done };
  }

  *#work(inOrder: readonly CatchUpEntry[], serial: string): Task<Done> {
    const group = this.#group;
    const member = this.#member;
    const progress = new Progress(group, member.name, 'catching up', inOrder.length);
    const pace = new Pace(group);
    let done = 0;
    try {
      for (const entry of inOrder) {
        const { record } = entry;
        if (yield* this.#catchUpWith(entry, serial)) {
          done += 1;
          progress.advance();
          yield* pace.rest();
          continue;
        }
        // Rather none than a key that was destroyed.
        if (record.what === 'destroy' || member.connection?.end !== undefined)
          return { reason: 'it could not catch up in time', done };
        const tries = member.recovery.countFailure(record.operation);
        // While somebody else serves, there is time to try again; then rather most of the keys than none.
        if (tries < MOST_TRIES && group.members.some((other) => other !== member && other.isActive))
          return { reason: 'it could not catch up yet', done };
      }
      return { reason: undefined, done };
    } finally {
      this.#forgetSurveys();
      progress.finish();
    }
  }

  /** What the members that are there have in writing for this one, and what only this process knows. */
  *#missedBy(serial: string): Task<readonly CatchUpEntry[]> {
    const group = this.#group;
    const entries = new Map<string, CatchUpEntry>();
    for (const each of this.settlement.reached) {
      const records = each === this.#member ? this.own : yield* this.settlement.records(each);
      if (records === undefined) continue;
      if (each.serial !== undefined) this.#heard.add(each.serial);
      group.learnMissed(each, records);
      // Another process may have given names since this one has read them.
      group.learnNames([records]);
      for (const { record } of records.changes) {
        if (record.kind !== 'journal') continue;
        if (each !== this.#member) this.#missedByOthers.set(record.operation, record);
        if (!record.missed.includes(serial)) continue;
        const known = entries.get(record.operation);
        if (known === undefined) entries.set(record.operation, { record, holders: [each] });
        else known.holders.push(each);
      }
    }
    for (const record of group.owedReversals.values()) {
      if (record.missed.includes(serial) && !entries.has(record.operation))
        entries.set(record.operation, { record, holders: [] });
    }
    return [...entries.values()].sort((a, b) => a.record.time - b.record.time);
  }

  /** What others still miss stands here too from now on: whoever knows it may be away when they come back. */
  *#noteForOthers(serial: string): Task<void> {
    const group = this.#group;
    const member = this.#member;
    const own = new Set(this.own.changes.map(({ record }) => record.operation));
    const notes = [...this.#missedByOthers.values()].flatMap((record) => {
      const missed = group.missing(record).filter((each) => each !== serial);
      return missed.length === 0 || own.has(record.operation) ? [] : [{ ...record, missed }];
    });
    for (let at = 0; at < notes.length; at += NOTE_BATCH) {
      const batch = notes.slice(at, at + NOTE_BATCH);
      const builder = new JobBuilder();
      for (const record of batch) builder.addRecord(record);
      const memberJob: MemberJob = { function: 'C_CreateObject', objects: [], job: () => ({ steps: builder.steps }) };
      if (!(yield* this.settlement.run(member, memberJob))) return;
      for (const record of batch) group.missed.note(record, [serial]);
    }
    if (notes.length > 0) yield* this.#forgetToldMeanwhile(notes);
  }

  /** What another process has told them while it was being noted here. */
  *#forgetToldMeanwhile(notes: readonly ChangeRecord[]): Task<void> {
    const left = new Set<string>();
    for (const each of this.settlement.reached) {
      if (each === this.#member) continue;
      const records = yield* this.settlement.records(each);
      if (records === undefined) return;
      for (const { record } of records.changes) left.add(record.operation);
    }
    for (const record of notes) if (!left.has(record.operation)) yield* this.settlement.remove(this.#member, record);
  }

  /** Looks once at all that is on this member, and on one that can give it what it lacks. */
  *#survey(entries: readonly CatchUpEntry[]): Task<void> {
    const { connection } = this.#member;
    const giver = entries.flatMap(({ holders }) => holders).find(({ isActive }) => isActive)?.connection;
    if (connection === undefined) return;
    const pace = new Pace(this.#group);
    const own = yield* surveyMember(connection, pace);
    if (!isFailure(own)) connection.survey = { found: own, isWhole: true };
    if (giver === undefined) return;
    const theirs = yield* surveyMember(giver, pace);
    if (!isFailure(theirs)) giver.survey = { found: theirs, isWhole: false };
    const records = yield* surveyKeyRecords(giver, pace);
    if (!isFailure(records)) this.settlement.redo.keyRecords = records;
  }

  #forgetSurveys(): void {
    for (const { connection } of this.#group.members) connection?.forgetSurvey();
    this.settlement.redo.keyRecords = undefined;
  }

  *#catchUpWith(entry: CatchUpEntry, serial: string): Task<boolean> {
    const group = this.#group;
    const member = this.#member;
    const { record } = entry;
    const { operation } = record;
    // That it happened after all stands on this member itself.
    const isVoid = record.undoes === true && this.#hasHappened(record);
    const left = isVoid ? undefined : this.settlement.redo.history.leftOf(record);
    if (left !== undefined && !(yield* this.settlement.redo.apply(left, member))) return false;
    // What says that it has happened goes last: an intent that is left without it would be undone.
    const intent = this.own.changes.find((own) => own.record.kind === 'intent' && own.record.operation === operation);
    if (intent !== undefined) yield* this.settlement.remove(member, intent.record);
    member.recovery.forgetFailures(operation);
    if (entry.holders.length > 0) this.#done.push(record);
    if (this.#done.length >= DONE_BATCH && !(yield* this.#noteDone(serial))) return false;
    const missed = record.missed.filter((each) => each !== serial);
    if (group.owedReversals.has(operation)) {
      if (missed.length === 0) group.owedReversals.delete(operation);
      else group.oweReversal({ ...record, missed });
    }
    group.emit({ type: 'sync', member: member.name, what: 'caught up', objects: summariesOf(record) });
    return true;
  }

  #hasHappened({ operation }: ChangeRecord): boolean {
    return this.own.changes.some(
      ({ record }) => record.kind === 'journal' && record.undoes !== true && record.operation === operation,
    );
  }

  /** On the member itself: so much is not done again, whoever still has it in writing. */
  *#noteDone(serial: string): Task<boolean> {
    const { group } = this.settlement;
    if (this.#done.length === 0) return true;
    const id = hex(group.port.randomBytes(8));
    const record: DoneRecord = { kind: 'done', id, serial, deeds: this.#done.map(changeIdOf) };
    const builder = new JobBuilder();
    builder.addRecord(record);
    const memberJob: MemberJob = { function: 'C_CreateObject', objects: [], job: () => ({ steps: builder.steps }) };
    if (!(yield* this.settlement.run(this.#member, memberJob))) return false;
    group.missed.learnDone(record);
    this.#done = [];
    return true;
  }
}
