import { resultOf } from '../../spec/job.js';
import { sameBytes } from '../base/bytes.js';
import type { Task } from '../base/task.js';
import { runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import { PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { isSecretRequest } from '../jobs/creation-request.js';
import type { KeyRecord } from '../objects/key-note.js';
import { attributesOf, objectOf } from '../objects/note.js';
import { detached, type VirtualObject } from '../objects/object.js';
import { History } from '../records/history.js';
import type { ChangeRecord } from '../records/record.js';
import { isShortOfCopies } from '../replicas/copies.js';
import { keepRecord, learnKeyRecord } from '../replicas/key-record.js';
import { changingAttributesTo, keepingName, readingValues } from '../replication/attribute-change-job.js';
import { copyReplicaTo } from '../replication/replica-copy.js';
import { haveAllLost, holdersOf, isGoneFrom, locate, othersThan, thereFirst } from './absence.js';
import { leftToSet } from './overtaken.js';
import { ownNames } from './own-names.js';
import { hasTombstone, isKeyed, Removal } from './removal.js';
import { RenamedObjects } from './renamed-object.js';
import { isUndoneElsewhere } from './reversal.js';

/** Time limit for installing one object, as a multiple of `hangAfter`. */
const INSTALL_MULTIPLE = 2;
/**
 * Repeats on one member a change that other members have, or undoes it there. Each operation looks first at what the
 * member has, so doing it twice does no harm.
 */
export class Redo {
  readonly group: Group;
  /** Key records by handle, read in advance when many objects are about to be looked at. */
  keyRecords: ReadonlyMap<number, KeyRecord> | undefined;
  /** Key records of the member that catches up. */
  ownKeyRecords: ReadonlyMap<number, KeyRecord> | undefined;
  /** Changes known to have happened on any member: they tell the identities that an object may have. */
  history: History = new History();
  readonly #limit: () => number;
  /** Handles of objects that were written since those key records were read. */
  readonly #touched = new Set<number>();
  readonly #removal: Removal;
  #renamedObjects: RenamedObjects | undefined;

  /** `limit` returns the deadline of a step that begins now. */
  constructor(group: Group, limit: () => number) {
    this.group = group;
    this.#limit = limit;
    this.#removal = new Removal(group, limit);
  }

  /** Returns true if a member has the new values of a change, or if one that had the object lacks what it destroys. */
  *isBegun(record: ChangeRecord, members: readonly Member[], hadObject: (member: Member) => boolean): Task<boolean> {
    if (record.what === 'destroy') {
      for (const note of record.notes) {
        for (const each of members.filter(hadObject))
          if ((yield* locate(this.group, objectOf(note), each)) === 'absent') return true;
      }
      return false;
    }
    const changes = attributesOf(record.changes);
    for (const each of members) {
      for (const object of this.#identitiesOf(record)) {
        const end = yield* runOnMember(this.group, each, readingValues(object, changes), this.#limit());
        if (end.kind !== 'done') continue;
        const read = resultOf(end.reply, 0, 'C_GetAttributeValue');
        const isNew = changes.every(({ value }, index) => sameBytes(read[index]?.value ?? new Uint8Array(), value));
        if (isNew) return true;
        break;
      }
    }
    return false;
  }

  /** Returns the objects of a change under each identity that they may have: the old one, and those given since. */
  #identitiesOf(record: ChangeRecord): readonly VirtualObject[] {
    const known: VirtualObject[] = [];
    const add = (object: VirtualObject): void => {
      if (!known.some(({ identity }) => sameBytes(identity, object.identity))) known.push(object);
    };
    for (const note of record.notes) {
      add(objectOf(note));
      for (const { what, notes, changes, former } of [record, ...this.history.about(note.handle)]) {
        if (what !== 'set') continue;
        const own = notes.find(({ handle }) => handle === note.handle);
        if (own === undefined) continue;
        for (const values of [[], changes, former]) {
          const object = objectOf(own);
          add(changingAttributesTo(this.group, object, attributesOf(values)).renamed ?? object);
        }
      }
    }
    return known;
  }

  #recordsBefore({ handle }: VirtualObject): ReadonlyMap<number, KeyRecord> | undefined {
    return this.#touched.has(handle) ? undefined : this.ownKeyRecords;
  }

  /** Does a change on one member; returns true if the change is done there. */
  *apply(record: ChangeRecord, member: Member): Task<boolean> {
    const isDone = yield* this.#apply(record, member);
    for (const { handle } of record.notes) this.#touched.add(handle);
    return isDone;
  }

  *#apply(record: ChangeRecord, member: Member): Task<boolean> {
    let isDone = true;
    for (const note of record.notes) {
      switch (record.what) {
        case 'create':
          isDone = (yield* this.#create({ ...record, notes: [note] }, member)) && isDone;
          break;
        case 'destroy':
          isDone = (yield* this.#destroy({ ...record, notes: [note] }, member)) && isDone;
          break;
        case 'set':
          isDone = (yield* this.#set(record, member)) && isDone;
          break;
      }
    }
    return isDone;
  }

  /** Installs an object unless the member has it under one of its names: an earlier recovery may have installed it. */
  *#create(record: ChangeRecord, member: Member): Task<boolean> {
    const objects = this.#identitiesOf(record);
    for (const each of objects.slice(1)) {
      const has = yield* this.#has(each, member);
      if (has !== 'no') return has === 'yes';
    }
    return yield* this.#installOneOf(objects, member, record);
  }

  /** Removes an object under every identity that it may have there; names of its own stand in key records. */
  *#destroy(record: ChangeRecord, member: Member): Task<boolean> {
    const objects = [...this.#identitiesOf(record)];
    const [first] = objects;
    const own = first === undefined || record.undoes === true ? [] : yield* ownNames(first, member);
    if (own === 'unknown') return false;
    for (const each of own) if (!objects.some(({ identity }) => sameBytes(identity, each.identity))) objects.push(each);
    let isDone = true;
    // The records go with the object, and tell its names to a next try.
    for (const object of yield* thereFirst(this.group, objects, member))
      isDone = (yield* this.#removal.remove(object, record, member)) && isDone;
    if (!isDone || first === undefined || record.undoes === true || own.length > 0) return isDone;
    return yield* this.#removal.leaveTombstone(first, record, member);
  }

  /** Finds an object on a member under one of its names, one in a key record there, or one that no record tells. */
  *#find(names: readonly VirtualObject[], member: Member): Task<VirtualObject | 'unknown' | undefined> {
    for (const name of names) if ((yield* locate(this.group, name, member)) === 'there') return name;
    const [first] = names;
    if (first === undefined || member.connection === undefined) return undefined;
    const own = yield* ownNames(first, member, this.#recordsBefore(first));
    if (own === 'unknown') return own;
    for (const name of own) if ((yield* locate(this.group, name, member)) === 'there') return name;
    const source = othersThan(this.group, member)[0]?.connection;
    if (source === undefined) return undefined;
    if (this.#renamedObjects?.connection !== member.connection)
      this.#renamedObjects = new RenamedObjects(this.group, member.connection, source);
    return yield* this.#renamedObjects.find(first);
  }

  /**
   * Installs an object, given under each identity that it may have; returns true if the member has it, or if it was
   * destroyed everywhere: then none of the members that had the change has it under any of them.
   */
  *#installOneOf(objects: readonly VirtualObject[], member: Member, record: ChangeRecord): Task<boolean> {
    let isGone = true;
    for (const object of objects) {
      const end = yield* this.#install(object, member, record);
      if (end === 'done') return true;
      if (end === 'failed') isGone = false;
    }
    return isGone;
  }

  *#install(object: VirtualObject, member: Member, record: ChangeRecord): Task<'done' | 'gone' | 'failed'> {
    // With policy.replication: external the vendor's own tool copies keys.
    if (this.group.policy.replication === 'external' && isSecretRequest(object.description)) return 'done';
    const { group } = this;
    let has = yield* this.#has(object, member);
    if (has !== 'no') return has === 'yes' ? 'done' : 'failed';
    const own = yield* ownNames(object, member, this.#recordsBefore(object));
    if (own === 'unknown') return 'failed';
    const known = yield* this.#asRecordedNow(object);
    // If the object was renamed since, the member may have it under a name of its own, or under its new one.
    for (const named of sameBytes(known.identity, object.identity) ? own : [...own, known]) {
      has = yield* this.#has(named, member);
      if (has !== 'no') return has === 'yes' ? 'done' : 'failed';
    }
    const others = othersThan(group, member);
    const holders = holdersOf(group, record, member);
    if (yield* isGoneFrom(group, holders, object)) return 'gone';
    // The others still have what a failed call left there, or none of them serves, so that waiting is in vain.
    const isSealed = known.record?.sealed !== undefined;
    const canGive = others.some(({ isServing, state }) => isServing || state.name === 'suspect');
    if ((!canGive && !isSealed) || isUndoneElsewhere(group, this.history, object.handle, member)) return 'failed';
    try {
      const until = Math.min(this.#limit(), group.port.now() + group.policy.hangAfter * INSTALL_MULTIPLE);
      if (yield* copyReplicaTo(group, known, member, until, record.what !== 'set' && record.undoes === true))
        return 'done';
    } catch {
      // An error means that no member could give the object now.
    }
    // Another process may have destroyed the object since the survey.
    return (yield* haveAllLost(holders, known, this.#limit())) ? 'gone' : 'failed';
  }

  /** Returns whether the member has the object, and as many copies of it as others. */
  *#has(object: VirtualObject, member: Member): Task<'yes' | 'no' | 'unknown'> {
    const location = yield* locate(this.group, object, member);
    if (location === 'unknown') return 'unknown';
    return location === 'there' && !(yield* this.#lacksCopies(object, member)) ? 'yes' : 'no';
  }

  /** Returns the object under the identity that its key record tells now. */
  *#asRecordedNow(object: VirtualObject): Task<VirtualObject> {
    const { group } = this;
    // Calls of the application may be working on the object: a copy of it takes what is read here.
    const known = detached(group.objects.get(object.handle) ?? object);
    known.described = object.described;
    keepRecord(known, this.#touched.has(known.handle) ? undefined : this.keyRecords?.get(known.handle));
    yield* learnKeyRecord(group, known);
    const { record } = known;
    if (record === undefined || record === null) return known;
    const recorded = objectOf(record.note);
    if (sameBytes(recorded.identity, object.identity)) return known;
    keepRecord(recorded, record);
    return sameBytes(known.identity, recorded.identity) ? known : recorded;
  }

  /** Returns true if the member has fewer copies of the object than another member. */
  *#lacksCopies(object: VirtualObject, member: Member): Task<boolean> {
    const source = othersThan(this.group, member)[0]?.connection;
    if (source === undefined || member.connection === undefined) return false;
    return yield* isShortOfCopies(this.group, member.connection, source, object, new PendingWork());
  }

  *#set(record: ChangeRecord, member: Member): Task<boolean> {
    const found = yield* this.#find(this.#identitiesOf(record), member);
    if (found === 'unknown') return false;
    if (found === undefined) return yield* this.#ensure(record, member);
    yield* this.#learnRecord(found, member);
    const left = yield* leftToSet(this.group, record, this.history, found, member, this.#limit());
    if (left === undefined || left.length === 0) return left !== undefined;
    const { memberJob } = changingAttributesTo(this.group, found, left);
    const end = yield* runOnMember(this.group, member, memberJob, this.#limit());
    // After the change the object may have another identity, so the survey is outdated.
    member.connection?.forgetSurvey();
    return end.kind === 'done';
  }

  /** Restores what an interrupted write may have destroyed, for a change that has not begun, and the object's name. */
  *keep(record: ChangeRecord, member: Member): Task<boolean> {
    if (record.what !== 'set') return true;
    if (!(yield* this.#ensure(record, member))) return false;
    const values = { changes: attributesOf(record.changes), former: attributesOf(record.former) };
    for (const note of record.notes) {
      const object = objectOf(note);
      if ((yield* locate(this.group, object, member)) !== 'there') continue;
      yield* this.#learnRecord(object, member);
      const memberJob = keepingName(this.group, object, values);
      if (memberJob === undefined) continue;
      if ((yield* runOnMember(this.group, member, memberJob, this.#limit())).kind !== 'done') return false;
    }
    return true;
  }

  /** Reads the key record of an object; the member's own one if those that serve have none, since they lack the object. */
  *#learnRecord(object: VirtualObject, member: Member): Task<void> {
    yield* learnKeyRecord(this.group, object);
    if (object.record !== undefined && object.record !== null) return;
    const own = yield* ownNames(object, member, this.#recordsBefore(object));
    if (own !== 'unknown' && own[0] !== undefined) keepRecord(object, own[0].record ?? undefined);
  }

  /**
   * Installs the object if the member lost it: an interrupted write can destroy the whole object. A key whose record is
   * gone too was destroyed meanwhile, by a process for which the member serves, or is yet to come by its creation.
   */
  *#ensure(record: ChangeRecord, member: Member): Task<boolean> {
    const objects = this.#identitiesOf(record);
    const [first] = objects;
    for (const object of objects) if ((yield* locate(this.group, object, member)) === 'there') return true;
    if (first !== undefined && isKeyed(this.group, first)) {
      const own = yield* ownNames(first, member);
      if (own === 'unknown') return false;
      if (own.length === 0) return yield* hasTombstone(this.group, objects, member, this.#limit);
    }
    return yield* this.#installOneOf(objects, member, record);
  }
}
