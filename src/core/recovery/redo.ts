import { resultOf, step } from '../../spec/job.js';
import { sameBytes } from '../base/bytes.js';
import type { Task } from '../base/task.js';
import { isReachable, readingRecords, runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import { isFailure, PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { isSecretRequest } from '../jobs/creation-request.js';
import { JobBuilder } from '../jobs/job-builder.js';
import type { MemberJob } from '../jobs/member-job.js';
import type { FoundReplica } from '../objects/found-object.js';
import { isProvenByIdentity } from '../objects/identity.js';
import type { KeyRecord } from '../objects/key-note.js';
import { attributesOf, hex, objectOf, proofsIn } from '../objects/note.js';
import { areOfOneKey, type VirtualObject } from '../objects/object.js';
import { History } from '../records/history.js';
import { foundIn, recordsIn } from '../records/ledger.js';
import type { ChangeRecord } from '../records/record.js';
import { isShortOfCopies, pickCopy, readUses } from '../replicas/copies.js';
import { compare } from '../replicas/fingerprint.js';
import { candidatesOn } from '../replicas/inventory.js';
import { learnKeyRecord, readKeyRecord } from '../replicas/key-record.js';
import { resolveKey } from '../replicas/resolve.js';
import { changingAttributesTo, hasValues } from '../replication/attribute-change-job.js';
import { addForgetting } from '../replication/destruction.js';
import { copyReplicaTo } from '../replication/replica-copy.js';
import { RenamedObjects } from './renamed-object.js';

/** One object is waited for so many times `hangAfter`. */
const GIVE_MULTIPLE = 2;

/**
 * Does on one member what a change has done on others, or takes it back there. Doing it twice does no harm: it looks
 * first at what is there.
 */
export class Redo {
  /** The records of keys, where many are about to be looked at: by handle. */
  keyRecords: ReadonlyMap<number, KeyRecord> | undefined;
  /** What is known to have happened, here or there: objects may go by names that only this tells. */
  history: History = new History();

  #renamedObjects: RenamedObjects | undefined;

  constructor(
    readonly group: Group,
    private readonly patience: () => number,
  ) {}

  /** Until when one step is waited for. */
  get deadline(): number {
    return this.patience();
  }

  /** Whether any member has taken the new values on, or has lost what was to be destroyed. */
  *isBegun(record: ChangeRecord, members: readonly Member[]): Task<boolean> {
    if (record.what === 'destroy') {
      for (const note of record.notes) {
        for (const each of members) if ((yield* this.#locate(objectOf(note), each)) === 'absent') return true;
      }
      return false;
    }
    const changes = attributesOf(record.changes);
    for (const each of members) {
      for (const object of this.#namesOf(record)) {
        const end = yield* runOnMember(this.group, each, hasValues(object, changes), this.deadline);
        if (end.kind !== 'done') continue;
        const read = resultOf(end.reply, 0, 'C_GetAttributeValue');
        const isNew = changes.every(({ value }, index) => sameBytes(read[index]?.value ?? new Uint8Array(), value));
        if (isNew) return true;
        break;
      }
    }
    return false;
  }

  /** The object of a change under the names that it may go by: its old one, and those that it was given. */
  #namesOf(record: ChangeRecord): readonly VirtualObject[] {
    const names: VirtualObject[] = [];
    const add = (object: VirtualObject): void => {
      if (!names.some(({ identity }) => sameBytes(identity, object.identity))) names.push(object);
    };
    for (const note of record.notes) {
      add(objectOf(note));
      for (const { what, notes, changes, former } of [record, ...this.history.about(note.handle)]) {
        if (what !== 'set') continue;
        const own = notes.find(({ handle }) => handle === note.handle);
        if (own === undefined) continue;
        for (const values of [[], changes, former]) {
          const named = objectOf(own);
          add(changingAttributesTo(this.group, named, attributesOf(values)).renamed ?? named);
        }
      }
    }
    return names;
  }

  /** Does a change on one member; true when it is done there. Doing it twice does no harm. */
  *apply(record: ChangeRecord, member: Member): Task<boolean> {
    let isDone = true;
    for (const note of record.notes) {
      const object = objectOf(note);
      switch (record.what) {
        case 'create':
          isDone = (yield* this.#give(object, member)) && isDone;
          break;
        case 'destroy':
          isDone = (yield* this.#takeUnderAnyName({ ...record, notes: [note] }, member)) && isDone;
          break;
        case 'set':
          isDone = (yield* this.#set(record, member)) && isDone;
          break;
      }
    }
    return isDone;
  }

  *#takeUnderAnyName(record: ChangeRecord, member: Member): Task<boolean> {
    let isDone = true;
    let wasThere = false;
    const names = this.#namesOf(record);
    for (const named of names) {
      wasThere = (yield* this.#locate(named, member)) === 'there' || wasThere;
      isDone = (yield* this.#take(named, record, member)) && isDone;
    }
    const [first] = names;
    if (wasThere || first === undefined || record.undoes === true) return isDone;
    // Rather a copy too many than a key lost.
    const renamed = yield* this.#renamedFor(first, member, true);
    return renamed === undefined ? isDone : (yield* this.#take(renamed, record, member)) && isDone;
  }

  /** The object on a member, where it goes by a name there that no record tells. */
  *#renamedFor(object: VirtualObject, member: Member, isCertain: boolean): Task<VirtualObject | undefined> {
    const source = this.#othersThan(member)[0]?.connection;
    if (member.connection === undefined || source === undefined) return undefined;
    if (this.#renamedObjects?.connection !== member.connection)
      this.#renamedObjects = new RenamedObjects(this.group, member.connection, source);
    return yield* this.#renamedObjects.find(object, isCertain);
  }

  *#locate(object: VirtualObject, member: Member): Task<'there' | 'absent' | 'unknown'> {
    const { connection } = member;
    if (connection === undefined) return 'unknown';
    const located = yield* resolveKey(this.group, member, connection, object, new PendingWork());
    if (located instanceof Uint8Array) return 'there';
    const replica = connection.replicas.get(object);
    return replica !== undefined && replica.kind !== 'usable' ? 'absent' : 'unknown';
  }

  *#give(object: VirtualObject, member: Member): Task<boolean> {
    // The vendor's own tool sees to that.
    if (this.group.policy.replication === 'external' && isSecretRequest(object.description)) return true;
    const where = yield* this.#locate(object, member);
    if (where === 'there' && !(yield* this.#isShort(object, member))) return true;
    if (where === 'unknown') return false;
    const { group } = this;
    let known = group.objects.get(object.handle) ?? object;
    known.described = object.described;
    known.record = this.keyRecords?.get(known.handle);
    yield* learnKeyRecord(group, known);
    const { record } = known;
    const now = record === undefined || record === null ? object : objectOf(record.note);
    if (record !== undefined && record !== null && !sameBytes(now.identity, object.identity)) {
      now.record = record;
      known = sameBytes(known.identity, now.identity) ? known : now;
    }
    // Where it goes by another name since, it is given by that, and may be there already.
    const isRenamed = !sameBytes(known.identity, object.identity);
    if (isRenamed && (yield* this.#locate(known, member)) === 'there' && !(yield* this.#isShort(known, member)))
      return true;
    // Gone everywhere: it was destroyed since, and there is nothing to be given.
    const others = this.#othersThan(member);
    let isAnywhere = others.length === 0;
    for (const each of others) {
      if (isAnywhere || each.connection === undefined) break;
      isAnywhere = (yield* this.#locate(known, each)) !== 'absent';
      if (isAnywhere || known.record?.sealed === undefined) continue;
      // A sealed form may be all that is left of it; as it stands there now, not as it was once read.
      const kept = yield* readKeyRecord(each.connection, known.handle);
      isAnywhere = kept.kind !== 'record' || kept.record?.sealed !== undefined;
    }
    if (!isAnywhere) return true;
    try {
      const until = Math.min(this.deadline, group.port.now() + group.policy.hangAfter * GIVE_MULTIPLE);
      return yield* copyReplicaTo(group, known, member, until);
    } catch {
      // Nobody could give it just now.
      return false;
    }
  }

  /** Who may have what a member lacks: those in service first. */
  #othersThan(member: Member): readonly Member[] {
    const others = this.group.members.filter(
      (each) => each !== member && isReachable(each) && !['joining', 'drained'].includes(each.state.name),
    );
    return others.sort((a, b) => Number(b.isServing) - Number(a.isServing));
  }

  /** Whether there is a copy of it, but not as many as elsewhere. */
  *#isShort(object: VirtualObject, member: Member): Task<boolean> {
    const source = this.#othersThan(member)[0]?.connection;
    if (source === undefined || member.connection === undefined) return false;
    return yield* isShortOfCopies(this.group, member.connection, source, object, new PendingWork());
  }

  /**
   * Takes an object off the member. Only what is proven to be it goes; when a creation is undone, only what no other
   * call has made since, and where something of its name was there before, only what is beyond that: rather a copy too
   * many than a key lost.
   */
  *#take(object: VirtualObject, record: ChangeRecord, member: Member): Task<boolean> {
    const { group } = this;
    const { connection } = member;
    if (connection === undefined) return false;
    const work = new PendingWork();
    work.epoch = connection.epoch;
    const candidates = yield* candidatesOn(connection, object, work);
    if (candidates.kind !== 'candidates') return false;
    const matches: FoundReplica[] = [];
    for (const candidate of candidates.list) {
      const comparison = isProvenByIdentity(object.description)
        ? 'same'
        : yield* compare(group, connection, object, candidate, work);
      // What could not be asked now is no reason to let it pass for something else.
      if (typeof comparison !== 'string') return false;
      const isOnlyOne = comparison === 'unknown' && candidates.list.length === 1 && record.undoes !== true;
      if (comparison === 'same' || isOnlyOne) matches.push(candidate);
    }
    const builder = new JobBuilder();
    const isUncertain = record.undoes === true && !record.alone;
    const going = isUncertain ? yield* this.#beyond(record, object, member, candidates.list.length, matches) : matches;
    if (going === undefined) return false;
    const mayGo = isUncertain
      ? going.length > 0
      : record.undoes !== true || (yield* this.#isMadeBy(record, object, member));
    const match = yield* pickCopy(connection, object, going, work);
    if (match !== undefined && 'kind' in match) return false;
    if (match !== undefined && mayGo) builder.add(step('C_DestroyObject', match.handle));
    if (mayGo) addForgetting(group, object, builder);
    if (builder.steps.length === 0) return true;
    const login = { connection, epoch: work.epoch };
    const memberJob: MemberJob = {
      function: 'C_DestroyObject',
      objects: [],
      login,
      job: () => ({ steps: builder.steps }),
    };
    const end = yield* runOnMember(group, member, memberJob, this.deadline);
    if (end.kind === 'done' && match !== undefined) connection.survey?.found.remove(object.identity, match.handle);
    return end.kind === 'done';
  }

  /**
   * What a member has beyond what it had before, and beyond what records name: what others have made since has an
   * alias. Copies of one key and one use are interchangeable, so any of them may go; none where nothing is beyond.
   */
  *#beyond(
    { before }: ChangeRecord,
    object: VirtualObject,
    member: Member,
    count: number,
    matches: readonly FoundReplica[],
  ): Task<readonly FoundReplica[] | undefined> {
    const { connection } = member;
    if (connection === undefined) return undefined;
    if (before === undefined || count <= before) return [];
    const uses = yield* readUses(connection, matches, new PendingWork());
    if (isFailure(uses)) return undefined;
    const alike = matches.filter((_match, index) => object.use === undefined || uses[index] === object.use);
    const end = yield* runOnMember(this.group, member, readingRecords, this.deadline);
    if (end.kind !== 'done') return undefined;
    const digest = hex(this.group.port.sha256(object.identity));
    const named = recordsIn(foundIn(end.reply, 0)).aliases.filter(
      ({ record }) =>
        record.identity === digest &&
        record.handle !== object.handle &&
        (object.use === undefined || record.use === object.use) &&
        areOfOneKey(proofsIn(record.proofs), object.reference),
    );
    return alike.length > new Set(named.map(({ record }) => record.handle)).size ? alike : [];
  }

  /** Whether the key record on a member, if there is one, is of that call. */
  *#isMadeBy({ operation }: ChangeRecord, object: VirtualObject, { connection }: Member): Task<boolean> {
    if (connection === undefined) return false;
    const read = yield* readKeyRecord(connection, object.handle);
    return read.kind === 'record' && (read.record === undefined || read.record.operation === operation);
  }

  *#set(record: ChangeRecord, member: Member): Task<boolean> {
    const changes = attributesOf(record.changes);
    const names = this.#namesOf(record);
    let found: VirtualObject | undefined;
    for (const object of names) {
      if ((yield* this.#locate(object, member)) !== 'there') continue;
      found = object;
      break;
    }
    const [first] = names;
    if (found === undefined && first !== undefined) found = yield* this.#renamedFor(first, member, false);
    if (found === undefined) return yield* this.#ensure(record, member);
    yield* learnKeyRecord(this.group, found);
    if (changes.length === 0) return true;
    const { memberJob } = changingAttributesTo(this.group, found, changes);
    const end = yield* runOnMember(this.group, member, memberJob, this.deadline);
    // Under which name it goes now, is looked for.
    member.connection?.forgetSurvey();
    return end.kind === 'done';
  }

  /** Of a call that has not begun: what an interrupted write may have taken is given back. */
  *keep(record: ChangeRecord, member: Member): Task<boolean> {
    return record.what === 'set' ? yield* this.#ensure(record, member) : true;
  }

  /** A write that was interrupted may have taken the whole object with it. */
  *#ensure(record: ChangeRecord, member: Member): Task<boolean> {
    const names = this.#namesOf(record);
    for (const object of names) if ((yield* this.#locate(object, member)) === 'there') return true;
    for (const object of names) if (yield* this.#give(object, member)) return true;
    return false;
  }
}
