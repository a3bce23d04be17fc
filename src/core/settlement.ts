import { step } from '../spec/job.js';
import { type Errand, isReachable, runErrand } from './errand.js';
import type { ObjectSummary } from './event.js';
import type { Group } from './group.js';
import { type FoundRecord, findRecords, foundIn, type RecordsFound, recordsIn } from './ledger.js';
import type { Member } from './member.js';
import { type ChangeRecord, labelTemplate, objectOf, reversalOf } from './record.js';
import { Redo } from './redo.js';
import { Script } from './script.js';
import { FOREVER, type Running, type Task } from './task.js';

/** A member tries so often to make good what it has missed, each time that another one who knows of it is settled. */
const MOST_TRIES = 3;

/** Members that are still on their way are waited for so long, so that what was left behind is settled on all (ms). */
const AWAIT_OTHERS = 1000;

/**
 * Settles what replicated calls have left on a member, before it serves: intents whose writers are gone are undone
 * or finished, and what it missed while it was away is done. One member after the other, so that what one of them
 * notes for the next is met by it. Ends with the reason when that could not be.
 */
export function* settle(group: Group, member: Member, deadline: number): Task<string | undefined> {
  const before = group.settling;
  const mine = group.port.start(takeTurn(group, before, member, deadline));
  group.settling = mine;
  try {
    if (!mine.settled) yield { signals: [mine], until: FOREVER };
    if (mine.ended?.ok === true) return mine.ended.value;
    return mine.ended?.error instanceof Error ? mine.ended.error.message : 'it was given up';
  } finally {
    if (!mine.settled) mine.cancel(undefined);
    if (group.settling === mine) group.settling = undefined;
  }
}

function* takeTurn(
  group: Group,
  before: Running<unknown> | undefined,
  member: Member,
  deadline: number,
): Task<string | undefined> {
  if (before !== undefined && !before.settled) yield { signals: [before], until: deadline };
  yield* awaitOthers(group, member, deadline);
  yield* awaitOwnChanges(group, deadline);
  // What is missed from here on is noted anew.
  member.isUnsettled = false;
  member.settleAt = FOREVER;
  const own = yield* recordsOn(group, member, deadline);
  if (own === undefined) return 'its records could not be read';
  group.learnSome([own]);
  const settlement = new Settlement(group, member, own, deadline);
  for (const intent of own.changes) {
    if (intent.record.kind !== 'intent' || !isAbandoned(group, member, intent.record)) continue;
    const reason = yield* settlement.settleIntent(intent);
    if (reason !== undefined) return reason;
  }
  return yield* settlement.catchUp();
}

/** Whether nobody works on an intent any more; one whose writer may live is looked at again when its time is over. */
function isAbandoned(group: Group, member: Member, { operation, writer, expires }: ChangeRecord): boolean {
  const look = (after: number): false => {
    member.settleAt = Math.min(member.settleAt, group.port.now() + after);
    return false;
  };
  if (group.changes.has(operation)) return look(group.policy.writeHangAfter);
  if (writer === group.port.writer || group.port.isWriterGone(writer) === true) return true;
  const left = expires - group.port.wallNow();
  return left <= 0 || look(left);
}

/** Members that are on their way are waited for a little: then all of them are settled alike. */
function* awaitOthers(group: Group, member: Member, deadline: number): Task<void> {
  const until = Math.min(deadline, group.port.now() + AWAIT_OTHERS);
  const isComing = (): boolean => group.members.some((other) => other !== member && other.state.name === 'joining');
  while (isComing() && group.port.now() < until) yield { signals: [group.changed], until };
}

/** What this process is about on other members is done soon, and then it is known what this one has missed. */
function* awaitOwnChanges(group: Group, deadline: number): Task<void> {
  const until = Math.min(deadline, group.port.now() + group.policy.hangAfter);
  const running = [...group.background];
  for (const each of running) {
    while (!each.settled && group.port.now() < until) yield { signals: [each], until };
  }
}

/** What a member's records say now. */
function* recordsOn(group: Group, member: Member, deadline: number): Task<RecordsFound | undefined> {
  const errand: Errand = {
    function: 'C_FindObjects',
    objects: [],
    isReading: true,
    job: () => ({ steps: [findRecords] }),
  };
  const end = yield* runErrand(group, member, errand, deadline);
  return end.kind === 'done' ? recordsIn(foundIn(end.reply, 0)) : undefined;
}

/** Whether somebody has left something there that nobody works on any more. */
export function* hasAbandoned(group: Group, member: Member, deadline: number): Task<boolean> {
  const records = yield* recordsOn(group, member, deadline);
  return records?.changes.some(({ record }) => record.kind === 'intent' && isAbandoned(group, member, record)) ?? false;
}

/** Whether a change destroys everything that another one is about. */
function destroysAllOf(later: ChangeRecord, { notes }: ChangeRecord): boolean {
  const isTrue = later.what === 'destroy' && later.undoes !== true;
  return isTrue && notes.every(({ handle }) => later.notes.some((note) => note.handle === handle));
}

function summariesOf({ notes }: ChangeRecord): readonly ObjectSummary[] {
  return notes.map((note) => objectOf(note).summary);
}

/** The settling of one member. */
class Settlement {
  readonly #redo: Redo;

  constructor(
    readonly group: Group,
    readonly member: Member,
    readonly own: RecordsFound,
    readonly deadline: number,
  ) {
    this.#redo = new Redo(group, deadline);
  }

  /** Members that can be worked on: this one, and those that serve or are about to. */
  get #reached(): readonly Member[] {
    return this.group.members.filter(
      (each) => each === this.member || (isReachable(each) && each.state.name !== 'joining'),
    );
  }

  /** Undoes or finishes a call that nobody works on any more; ends with the reason when that cannot be now. */
  *settleIntent({ record }: FoundRecord<ChangeRecord>): Task<string | undefined> {
    const { group } = this;
    const { operation } = record;
    const fate = yield* this.#fateOf(record);
    if (fate !== 'committed') {
      const reached = this.#reached;
      const isForward = fate === 'open' && record.what !== 'create';
      const isBegun = !isForward || (yield* this.#redo.isBegun(record, reached));
      const task = isForward ? record : reversalOf(record);
      const left = this.#serials(record).filter((serial) => !reached.some((each) => each.serial === serial));
      for (const each of reached) {
        const isDone = isBegun ? yield* this.#redo.apply(task, each) : yield* this.#redo.keep(record, each);
        if (!isDone && each.serial !== undefined) left.push(each.serial);
      }
      if (isBegun && left.length > 0 && !(yield* this.#write({ ...task, kind: 'journal', missed: left })))
        return 'a call that was interrupted could not be settled';
      const what = isForward && isBegun ? 'finished' : 'undone';
      group.emit({ type: 'sync', member: this.member.name, what, objects: summariesOf(record) });
    }
    yield* this.#remove(this.member, record);
    group.dropped.delete(operation);
    group.kept.delete(operation);
    return undefined;
  }

  /** Does what was missed, in the order in which it happened; ends with the reason when it may not serve without. */
  *catchUp(): Task<string | undefined> {
    const { group, member } = this;
    const { serial } = member;
    if (serial === undefined) return undefined;
    const entries = new Map<string, { readonly record: ChangeRecord; readonly holders: Member[] }>();
    for (const each of this.#reached) {
      const records = each === member ? this.own : yield* recordsOn(group, each, this.deadline);
      for (const { record } of records?.changes ?? []) {
        if (record.kind !== 'journal' || !record.missed.includes(serial)) continue;
        const known = entries.get(record.operation);
        if (known === undefined) entries.set(record.operation, { record, holders: [each] });
        else known.holders.push(each);
      }
    }
    for (const record of group.aborted.values()) {
      if (record.missed.includes(serial) && !entries.has(record.operation))
        entries.set(record.operation, { record, holders: [] });
    }
    const inOrder = [...entries.values()].sort((a, b) => a.record.time - b.record.time);
    for (const [index, { record, holders }] of inOrder.entries()) {
      const isOvertaken = inOrder.slice(index + 1).some((later) => destroysAllOf(later.record, record));
      if (yield* this.#catchUpWith(record, holders, serial, isOvertaken)) continue;
      // Rather none than a key that was destroyed; and what only took too long is tried again.
      if (record.what === 'destroy' || group.port.now() >= this.deadline) return 'it could not catch up in time';
      const tries = (member.unable.get(record.operation) ?? 0) + 1;
      member.unable.set(record.operation, tries);
      // While somebody else serves, there is time to try again; then rather most of the keys than none.
      if (tries < MOST_TRIES && group.members.some((other) => other !== member && other.isActive))
        return 'it could not catch up yet';
    }
    // The other way round: who serves and has missed what only this member knows of.
    for (const { record } of this.own.changes) group.notice(record, MOST_TRIES);
    return undefined;
  }

  *#catchUpWith(record: ChangeRecord, holders: readonly Member[], serial: string, isOvertaken: boolean): Task<boolean> {
    const { group, member } = this;
    const { operation } = record;
    // That it happened after all stands on this member itself.
    const isVoid = isOvertaken || (record.undoes === true && this.#hasHappened(record));
    if (!isVoid && !(yield* this.#redo.apply(record, member))) return false;
    // What says that it has happened goes last: an intent that is left without it would be undone.
    const intent = this.own.changes.find((own) => own.record.kind === 'intent' && own.record.operation === operation);
    if (intent !== undefined) yield* this.#remove(member, intent.record);
    member.unable.delete(operation);
    for (const holder of holders) yield* this.#strike(holder, record, serial);
    const left = record.missed.filter((missed) => missed !== serial);
    if (group.aborted.has(operation)) {
      if (left.length === 0) group.aborted.delete(operation);
      else group.abort({ ...record, missed: left });
    }
    group.emit({ type: 'sync', member: member.name, what: 'caught up', objects: summariesOf(record) });
    return true;
  }

  #hasHappened({ operation }: ChangeRecord): boolean {
    return this.own.changes.some(
      ({ record }) => record.kind === 'journal' && record.undoes !== true && record.operation === operation,
    );
  }

  #serials({ missed }: ChangeRecord): readonly string[] {
    const all = this.group.ledger.record?.members.map(({ serial }) => serial) ?? [];
    return [...new Set([...all, ...missed])];
  }

  /** What has become of a call, as this process knows it or a journal entry of it says, here or elsewhere. */
  *#fateOf({ operation }: ChangeRecord): Task<'committed' | 'undone' | 'open'> {
    if (this.group.kept.has(operation)) return 'committed';
    if (this.group.dropped.has(operation)) return 'undone';
    for (const each of this.#reached) {
      const records = each === this.member ? this.own : yield* recordsOn(this.group, each, this.deadline);
      const entry = records?.changes.find(({ record }) => record.kind === 'journal' && record.operation === operation);
      if (entry !== undefined) return entry.record.undoes === true ? 'undone' : 'committed';
    }
    return 'open';
  }

  /** Notes an entry on all members that can be reached; false when none of them took it. */
  *#write(record: ChangeRecord): Task<boolean> {
    const script = new Script();
    script.write(record);
    let isNoted = false;
    const others = this.#reached.filter(({ serial }) => serial === undefined || !record.missed.includes(serial));
    for (const each of others.length > 0 ? others : this.#reached) {
      const end = yield* runErrand(
        this.group,
        each,
        { function: 'C_CreateObject', objects: [], job: () => ({ steps: script.steps }) },
        this.deadline,
      );
      if (end.kind === 'done') isNoted = true;
    }
    return isNoted;
  }

  /** A member is done with an entry: the new one is there before the old one goes. */
  *#strike(holder: Member, record: ChangeRecord, serial: string): Task<void> {
    const missed = record.missed.filter((each) => each !== serial);
    if (missed.length === 0) {
      yield* this.#remove(holder, record);
      return;
    }
    const script = new Script();
    const old = script.add(step('X_Find', labelTemplate(record), 1, []));
    script.write({ ...record, missed });
    script.add(step('C_DestroyObject', { step: old }));
    yield* runErrand(
      this.group,
      holder,
      { function: 'C_DestroyObject', objects: [], job: () => ({ steps: script.steps }) },
      this.deadline,
    );
  }

  *#remove(member: Member, record: ChangeRecord): Task<void> {
    const steps = [step('X_Find', labelTemplate(record), 1, []), step('C_DestroyObject', { step: 0 })];
    yield* runErrand(
      this.group,
      member,
      { function: 'C_DestroyObject', objects: [], job: () => ({ steps }) },
      this.deadline,
    );
  }
}
