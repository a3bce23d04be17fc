import { step } from '../spec/job.js';
import type { Connection } from './connection.js';
import { type Errand, runErrand } from './errand.js';
import type { ObjectSummary } from './event.js';
import type { Group } from './group.js';
import type { RecordsFound } from './ledger.js';
import type { Member } from './member.js';
import { areOfOneKey } from './object.js';
import { isFailure } from './outcome.js';
import { Pace } from './pace.js';
import { Progress } from './progress.js';
import { type ChangeRecord, labelTemplate, objectOf, proofsIn } from './record.js';
import { Script } from './script.js';
import type { Settled, Settlement } from './settlement.js';
import { surveyKeyRecords, surveyMember } from './survey.js';
import type { Task } from './task.js';

/** A member tries so often to make good what it has missed, each time that another one who knows of it is settled. */
const MOST_TRIES = 3;
/** With so many keys to get, it is looked once at all that is there, and not for each of them. */
const MANY = 8;
/** So many entries are struck off a holder at once: writes run alone in its host, and keep others waiting. */
const STRIKE_BATCH = 4;
/** So many entries that others miss are noted at once. */
const NOTE_BATCH = 16;
const WAIT_MULTIPLE = 5;

/** A change that the member has missed, and who has it in writing. */
interface Entry {
  readonly record: ChangeRecord;
  readonly holders: {
    readonly member: Member;
    readonly handle: Uint8Array;
    readonly connection: Connection;
    readonly epoch: number;
  }[];
}

/** Whether two changes are about the same key: a successor of the same name has other proofs. */
function areOfSameKey(one: ChangeRecord, other: ChangeRecord): boolean {
  return one.notes.every(({ handle, proofs }) =>
    other.notes.some((note) => note.handle === handle && areOfOneKey(proofsIn(note.proofs), proofsIn(proofs))),
  );
}

/**
 * What is left to be done of a change, given what else is known to have happened: nothing of an object that was
 * destroyed, whoever did that when (Rule 16), and of attributes only what was not set again later. Undefined where
 * it is void.
 */
function leftOf(record: ChangeRecord, history: readonly ChangeRecord[]): ChangeRecord | undefined {
  if (record.what === 'destroy') return record;
  const others = history.filter((other) => other.operation !== record.operation && areOfSameKey(record, other));
  const made = Math.max(0, ...others.filter(({ what }) => what === 'create').map(({ time }) => time));
  const isDestroyed = others.some(
    ({ what, undoes, time }) =>
      what === 'destroy' && undoes !== true && time > (record.what === 'create' ? record.time : made),
  );
  if (isDestroyed) return undefined;
  if (record.what === 'create') return record;
  const later = others.filter(({ what, time }) => what === 'set' && time > record.time);
  const changes = record.changes.filter(
    ([type]) => !later.some((set) => set.changes.some(([other]) => other === type)),
  );
  return changes.length === 0 ? undefined : { ...record, changes };
}

function summariesOf({ notes }: ChangeRecord): readonly ObjectSummary[] {
  return notes.map((note) => objectOf(note).summary);
}

/** Does on a member what it has missed, in the order in which it happened. */
export class CatchUp {
  readonly #group: Group;
  readonly #member: Member;
  /** What the members that are there have in writing for others than this one, by operation. */
  readonly #untold = new Map<string, ChangeRecord>();
  /** What holders need not have in writing any more: struck a batch at a time. */
  readonly #done: Entry[] = [];

  constructor(
    readonly settlement: Settlement,
    readonly own: RecordsFound,
  ) {
    this.#group = settlement.group;
    this.#member = settlement.member;
  }

  /** With a `refusal` it does nothing, and that is the reason where there is something to do. */
  *run(refusal: string | undefined): Task<Settled> {
    const group = this.#group;
    const member = this.#member;
    const { serial, connection } = member;
    if (serial === undefined || connection === undefined) return { reason: undefined, done: 0 };
    const inOrder = yield* this.#missedBy(serial);
    if (refusal !== undefined && inOrder.length > 0) return { reason: refusal, done: 0 };
    if (inOrder.filter(({ record }) => record.what === 'create').length >= MANY) yield* this.#survey(inOrder);
    const own = this.own.changes.filter(({ record }) => record.kind === 'journal');
    const history = [...own, ...inOrder].map(({ record }) => record);
    this.settlement.redo.history = history;
    const progress = new Progress(group, member.name, 'catching up', inOrder.length);
    const pace = new Pace(group);
    let done = 0;
    try {
      for (const entry of inOrder) {
        const { record } = entry;
        if (yield* this.#catchUpWith(entry, serial, history)) {
          done += 1;
          progress.advance();
          yield* pace.rest();
          continue;
        }
        // Rather none than a key that was destroyed.
        if (record.what === 'destroy' || connection.end !== undefined)
          return { reason: 'it could not catch up in time', done };
        const tries = (member.unable.get(record.operation) ?? 0) + 1;
        member.unable.set(record.operation, tries);
        // While somebody else serves, there is time to try again; then rather most of the keys than none.
        if (tries < MOST_TRIES && group.members.some((other) => other !== member && other.isActive))
          return { reason: 'it could not catch up yet', done };
      }
    } finally {
      this.#forgetSurveys();
      progress.finish();
    }
    yield* this.#strike(serial);
    if (refusal === undefined) yield* this.#noteForOthers(serial);
    // The other way round: who serves and has missed what only this member knows of.
    for (const { record } of this.own.changes) group.notice(record, MOST_TRIES);
    return { reason: undefined, done };
  }

  /** What the members that are there have in writing for this one, and what only this process knows. */
  *#missedBy(serial: string): Task<readonly Entry[]> {
    const group = this.#group;
    const entries = new Map<string, Entry>();
    for (const each of this.settlement.reached) {
      const { connection } = each;
      const epoch = connection?.epoch ?? 0;
      const records = each === this.#member ? this.own : yield* this.settlement.records(each);
      if (records === undefined || connection === undefined) continue;
      group.learnMissed(each, records);
      // Another process may have given names since this one has read them.
      group.learnNames([records]);
      for (const { record, handle } of records.changes) {
        if (record.kind !== 'journal') continue;
        if (each !== this.#member) this.#untold.set(record.operation, record);
        if (!record.missed.includes(serial)) continue;
        const holder = { member: each, handle: Uint8Array.from(handle), connection, epoch };
        const known = entries.get(record.operation);
        if (known === undefined) entries.set(record.operation, { record, holders: [holder] });
        else known.holders.push(holder);
      }
    }
    for (const record of group.aborted.values()) {
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
    const notes = [...this.#untold.values()].flatMap((record) => {
      const missed = record.missed.filter((each) => each !== serial && group.ledger.isMember(each));
      return missed.length === 0 || own.has(record.operation) ? [] : [{ ...record, missed }];
    });
    for (let at = 0; at < notes.length; at += NOTE_BATCH) {
      const batch = notes.slice(at, at + NOTE_BATCH);
      const script = new Script();
      for (const record of batch) script.write(record);
      const errand: Errand = { function: 'C_CreateObject', objects: [], job: () => ({ steps: script.steps }) };
      if (!(yield* this.settlement.run(member, errand))) return;
      for (const { operation, missed } of batch) group.missed.note(operation, missed, [serial]);
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
  *#survey(entries: readonly Entry[]): Task<void> {
    const { connection } = this.#member;
    const giver = entries.flatMap(({ holders }) => holders).find(({ member }) => member.isActive)?.member.connection;
    if (connection === undefined) return;
    const own = yield* surveyMember(connection);
    if (!isFailure(own)) connection.survey = { found: own, isWhole: true };
    if (giver === undefined) return;
    const theirs = yield* surveyMember(giver);
    if (!isFailure(theirs)) giver.survey = { found: theirs, isWhole: false };
    const records = yield* surveyKeyRecords(giver);
    if (!isFailure(records)) this.settlement.redo.keyRecords = records;
  }

  #forgetSurveys(): void {
    for (const { connection } of this.#group.members) connection?.forgetSurvey();
    this.settlement.redo.keyRecords = undefined;
  }

  *#catchUpWith(entry: Entry, serial: string, history: readonly ChangeRecord[]): Task<boolean> {
    const group = this.#group;
    const member = this.#member;
    const { record } = entry;
    const { operation } = record;
    // That it happened after all stands on this member itself.
    const isVoid = record.undoes === true && this.#hasHappened(record);
    const left = isVoid ? undefined : leftOf(record, history);
    if (left !== undefined && !(yield* this.settlement.redo.apply(left, member))) return false;
    // What says that it has happened goes last: an intent that is left without it would be undone.
    const intent = this.own.changes.find((own) => own.record.kind === 'intent' && own.record.operation === operation);
    if (intent !== undefined) yield* this.settlement.remove(member, intent.record);
    member.unable.delete(operation);
    this.#done.push({ ...entry, holders: entry.holders.filter(({ member: holder }) => !this.#needs(holder, record)) });
    if (this.#done.length >= STRIKE_BATCH) yield* this.#strike(serial);
    const missed = record.missed.filter((each) => each !== serial);
    if (group.aborted.has(operation)) {
      if (missed.length === 0) group.aborted.delete(operation);
      else group.abort({ ...record, missed });
    }
    group.emit({ type: 'sync', member: member.name, what: 'caught up', objects: summariesOf(record) });
    return true;
  }

  /**
   * Whether a holder that has not settled itself yet still needs its entry: this member has something for it about the
   * same object, and what came later, or under which name, only both together tell. It is struck the next time.
   */
  #needs({ serial, isServing }: Member, record: ChangeRecord): boolean {
    if (isServing || serial === undefined) return false;
    const handles = new Set(record.notes.map(({ handle }) => handle));
    return this.own.changes.some(
      ({ record: own }) =>
        own.kind === 'journal' && own.missed.includes(serial) && own.notes.some(({ handle }) => handles.has(handle)),
    );
  }

  #hasHappened({ operation }: ChangeRecord): boolean {
    return this.own.changes.some(
      ({ record }) => record.kind === 'journal' && record.undoes !== true && record.operation === operation,
    );
  }

  /** The member is done with these entries: where others have missed them too, the new one is there before the old one goes. */
  *#strike(serial: string): Task<void> {
    const group = this.#group;
    const entries = this.#done.splice(0);
    const holders = new Set(entries.flatMap(({ holders: all }) => all.map(({ member }) => member)));
    for (const holder of holders) {
      const { connection } = holder;
      const own = entries.flatMap(({ record, holders: all }) =>
        all.filter(({ member }) => member === holder).map((held) => ({ record, held })),
      );
      const isSameLogin = own.every(
        ({ held }) => held.connection === connection && held.epoch === held.connection.epoch,
      );
      const script = new Script();
      for (const { record, held } of own) {
        const missed = record.missed.filter((each) => each !== serial);
        const old = isSameLogin ? held.handle : { step: script.add(step('X_Find', labelTemplate(record), 1, [])) };
        if (missed.length > 0) script.write({ ...record, missed });
        script.add({ ...step('C_DestroyObject', old), optional: true });
      }
      const until = group.port.now() + group.policy.hangAfter * WAIT_MULTIPLE + group.policy.writeHangAfter;
      const [first] = own;
      const login = isSameLogin && first !== undefined ? { login: first.held } : {};
      // An entry that stays for now is found to be done the next time.
      yield* runErrand(
        group,
        holder,
        { function: 'C_DestroyObject', objects: [], ...login, job: () => ({ steps: script.steps }) },
        until,
      );
    }
    for (const { record } of entries) group.missed.settle(record.operation, serial);
  }
}
