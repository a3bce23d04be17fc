import type { Attribute } from '../../spec/attribute.js';
import { CKR } from '../../spec/codes.js';
import { sameBytes } from '../base/bytes.js';
import { TokenError } from '../base/error.js';
import type { AttemptRecord } from '../base/event.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { type Failure, failureOf, isFailure, PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { noCodes, type Operation } from '../jobs/operation.js';
import { renewLogin } from '../joining/login-renewal.js';
import type { FoundReplica } from '../objects/found-object.js';
import { isProvenByIdentity, isReserved } from '../objects/identity.js';
import { hex } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import { findRecords, foundIn, type RecordsFound, recordsIn } from '../records/ledger.js';
import { completeInventory, findJob, readInventory } from '../replicas/inventory.js';
import { Attempt, type AttemptEnd } from './attempt.js';
import { ObjectMapping } from './object-mapping.js';

const MOST_OBJECTS = 0x7fff_ffff;
/** Names that change just now are read so often. */
const MOST_READINGS = 3;
/** When no member has answered, they are asked again after so long (ms). */
const RETRY_AFTER = 25;

/** A find on one member: an attempt, then what turns its reply into objects. */
class MemberSearch extends PendingWork {
  attempt: Attempt;
  meeting: ObjectMapping;
  /** What the member's records say, where they were read on the occasion. */
  records: RecordsFound | undefined;
  objects: readonly VirtualObject[] | undefined;
  end: AttemptEnd | undefined;

  constructor(
    readonly group: Group,
    readonly member: Member,
    readonly connection: Connection,
  ) {
    super();
    this.attempt = new Attempt(member, connection, group);
    this.meeting = new ObjectMapping(group, member, connection, this);
  }

  *run(template: readonly Attribute[], deadline: number): Task<void> {
    try {
      yield* this.#search(template, deadline);
      if (!this.#hasLostSession) return;
      // Between the find and what tells its objects apart: found again on a new session, once.
      const renewal = renewLogin(this.group, this.member, this.connection);
      yield* this.follow(renewal);
      if (renewal.failure !== undefined) return;
      this.attempt = new Attempt(this.member, this.connection, this.group);
      this.meeting = new ObjectMapping(this.group, this.member, this.connection, this);
      yield* this.#search(template, deadline);
    } finally {
      this.attempt.cancel();
      this.complete();
    }
  }

  get #hasLostSession(): boolean {
    return this.attempt.end?.kind === 'ok' && this.end?.kind === 'code' && this.end.verdict === 'session';
  }

  *#search(template: readonly Attribute[], deadline: number): Task<void> {
    const { attempt, group, connection } = this;
    this.epoch = connection.epoch;
    attempt.start(findOperation(template, group.readsRecords), deadline);
    while (!attempt.completed) {
      yield* race([attempt], deadline);
      if (attempt.late) this.markLate();
      if (group.port.now() >= deadline) return;
    }
    this.end = attempt.end;
    if (attempt.end?.kind !== 'ok') return;
    // It may have logged in anew.
    this.epoch = attempt.executedIn;
    if (attempt.end.reply.results.length > 1) {
      this.records = recordsIn(foundIn(attempt.end.reply, 1));
      group.learnMissed(this.member, this.records);
      const seen = this.records.group?.record.revision ?? -1;
      if (seen > this.member.recovery.revision) this.member.recovery.noteRevision(seen);
      for (const { record } of this.records.aliases) group.objects.learnAliases(group.ledger.addAlias(record));
    }
    const inventory = yield* completeInventory(connection, attempt.end.reply, deadline, this);
    const objects = inventory.kind === 'objects' ? yield* this.#meet(template, inventory.objects, deadline) : inventory;
    if (isFailure(objects)) this.end = attempt.judged(objects);
    else this.objects = objects;
  }

  /**
   * Where aliases tell the handles they have to be of one time with the names: whoever renames writes the new alias
   * first and takes the old one away last, so what is named alike before and after they were read is what they speak of.
   */
  *#meet(
    template: readonly Attribute[],
    found: readonly FoundReplica[],
    deadline: number,
  ): Task<readonly VirtualObject[] | Failure> {
    const { group, meeting } = this;
    meeting.records = this.records;
    let named = found;
    for (let tries = 1; tries <= MOST_READINGS && needsAliases(group, named); tries += 1) {
      const failure = meeting.records === undefined || tries > 1 ? yield* this.#readAliases(deadline) : undefined;
      if (failure !== undefined) return failure;
      if (meeting.records?.aliases.length === 0) break;
      const again = yield* readInventory(this.connection, template, MOST_OBJECTS, deadline, this);
      if (again.kind !== 'objects') return again;
      const before = named;
      named = again.objects;
      if (areNamedAlike(before, named)) break;
    }
    return yield* meeting.toVirtual(named);
  }

  *#readAliases(deadline: number): Task<Failure | undefined> {
    const outcome = yield* this.connection.run({ steps: [findRecords] }, 'find', deadline, this);
    const failure = failureOf(outcome);
    if (failure !== undefined || outcome.kind !== 'reply') return failure ?? { kind: 'withdrawn' };
    this.meeting.records = recordsIn(foundIn(outcome.reply, 0));
    this.group.learnSome([this.meeting.records]);
    return undefined;
  }
}

/**
 * Whether only aliases, which this process may not have read yet, tell the handles: of twins and copies, and of what it
 * has not met, which may have been renamed by another process since it was made.
 */
function needsAliases(group: Group, found: readonly FoundReplica[]): boolean {
  if (group.ledger.record === undefined) return false;
  const isNew = ({ identity, description }: FoundReplica): boolean =>
    description.token && !isReserved(description.label) && group.objects.withIdentity(identity).length === 0;
  if (found.some(isNew)) return true;
  const counts = new Map<string, { readonly identity: Uint8Array; count: number }>();
  for (const { identity, description } of found) {
    if (!description.token || isReserved(description.label)) continue;
    const key = Buffer.from(identity).toString('latin1');
    const counted = counts.get(key) ?? { identity, count: 0 };
    counted.count += 1;
    counts.set(key, counted);
  }
  return [...counts.values()].some(({ identity, count }) => {
    const known = group.objects.aliasesOf(identity).length;
    return count !== known && (count > 1 || group.objects.isTwinned(identity));
  });
}

function areNamedAlike(before: readonly FoundReplica[], after: readonly FoundReplica[]): boolean {
  const names = new Map(before.map(({ handle, identity }) => [hex(handle), identity]));
  return (
    before.length === after.length &&
    after.every(({ handle, identity }) => {
      const name = names.get(hex(handle));
      return name !== undefined && sameBytes(name, identity);
    })
  );
}

function findOperation(template: readonly Attribute[], readsRecords: boolean): Operation<undefined> {
  return {
    function: 'C_FindObjects',
    objects: [],
    mechanism: undefined,
    aspect: 'pure',
    kind: 'find',
    results: noCodes,
    job: () => {
      const job = findJob(template, MOST_OBJECTS);
      return readsRecords ? { steps: [...job.steps, findRecords] } : job;
    },
    read: () => undefined,
  };
}

/**
 * The objects that match a template on any member in service, in the order of the first member that has
 * them. An empty answer of one member proves nothing, so all are asked at once and merged (Rule 14); one
 * that is late is not waited for when another has answered that is known to be in step.
 */
export function* findObjects(
  group: Group,
  template: readonly Attribute[],
  deadline: number,
  /** The only member that is asked. */
  only?: Member,
): Task<readonly VirtualObject[]> {
  const { port } = group;
  const records: AttemptRecord[] = [];
  group.counters.calls += 1;
  for (;;) {
    const searches = start(group, template, deadline, only);
    try {
      const answered = searches.length === 0 ? [] : yield* gather(group, searches, deadline, records);
      if (answered.length > 0) {
        learn(group, answered);
        return merge(group, answered).filter((object) => group.isVisible(object));
      }
    } finally {
      for (const search of searches) search.attempt.cancel();
    }
    if (port.now() >= deadline || group.isHopeless) {
      throw new TokenError(
        CKR.deviceRemoved,
        'C_FindObjects',
        `no member answered: ${group.describeMembers()}`,
        records,
      );
    }
    // Nobody may have been blamed, so that nothing changes: then it is tried again after a moment.
    yield* race([group.changed], Math.min(deadline, port.now() + RETRY_AFTER));
  }
}

function start(
  group: Group,
  template: readonly Attribute[],
  deadline: number,
  only: Member | undefined,
): MemberSearch[] {
  const named = (...names: string[]): Member[] =>
    (only === undefined ? group.members : [only]).filter(
      ({ state, connection }) => names.includes(state.name) && connection !== undefined && connection.end === undefined,
    );
  // One that has missed something is asked when nobody is there that has not.
  let members = named('active');
  if (members.length === 0) members = named('standby');
  if (members.length === 0) members = named('stale');
  if (members.length === 0) members = named('suspect');
  return members.flatMap((member) => {
    const { connection } = member;
    if (connection === undefined) return [];
    const search = new MemberSearch(group, member, connection);
    group.port.start(search.run(template, deadline));
    return [search];
  });
}

function* gather(
  group: Group,
  searches: readonly MemberSearch[],
  deadline: number,
  records: AttemptRecord[],
): Task<MemberSearch[]> {
  const judged = new Set<MemberSearch>();
  for (;;) {
    for (const search of searches) {
      if (!search.completed || judged.has(search)) continue;
      judged.add(search);
      if (search.objects === undefined) blame(search, records);
    }
    const answered = searches.filter(({ objects }) => objects !== undefined);
    const waiting = searches.filter(({ completed }) => !completed);
    // Only one that is known to have everything may speak for those that are late.
    const isComplete = answered.some(({ member }) => isInStep(group, member));
    const worthWaiting = waiting.filter(
      ({ late, member }) => !(late && isComplete) && (member.isActive || member.state.name === 'standby'),
    );
    if (waiting.length === 0 || (answered.length > 0 && worthWaiting.length === 0)) return answered;
    if (group.port.now() >= deadline) return answered;
    yield* race([...waiting, group.changed], deadline);
  }
}

/** Whether a member has all that the group has changed, as far as this process knows. */
function isInStep({ ledger }: Group, { isActive, recovery }: Member): boolean {
  return ledger.record !== undefined && isActive && !recovery.isNeeded && recovery.failedChanges.size === 0;
}

function blame({ attempt, end, member }: MemberSearch, records: AttemptRecord[]): void {
  const { record } = attempt;
  records.push({ ...record, function: record.function === '' ? 'C_FindObjects' : record.function });
  if (end?.kind === 'fault') throw end.error;
  if (end?.kind !== 'code') return;
  if (end.verdict === 'caller') throw new TokenError(end.code, end.function, '', records, member.name);
  if (end.verdict === 'busy') member.backOff();
  // A member that cannot even list its objects is in trouble, whatever it calls it.
  else member.suspect(attempt.connection, `${record.function} answered ${record.outcome}`);
}

function merge(group: Group, answered: readonly MemberSearch[]): readonly VirtualObject[] {
  const merged = new Set<VirtualObject>();
  for (const { objects } of answered) for (const object of objects ?? []) merged.add(object);
  for (const { objects, member } of answered) {
    const own = new Set(objects);
    for (const object of merged) {
      if (!own.has(object) && !object.replicaStatus.has(member.name)) group.noteReplicaStatus(member, object, 'absent');
    }
  }
  return [...merged];
}

/** Takes in what members have said of the group's records, and of objects that are not what they were. */
function learn(group: Group, answered: readonly MemberSearch[]): void {
  const records = answered.flatMap(({ records: read }) => read ?? []);
  if (records.length > 0) group.learn(records);
  group.onRecordsRead(records);
  for (const { meeting } of answered) {
    for (const object of meeting.moved) {
      if (answered.some((each) => each.meeting.intact.has(object)) || isProvenByIdentity(object.description)) continue;
      // Nobody has the one that was proven any more: what is there now has to be proven anew.
      object.reference.clear();
      object.referenced = false;
      object.record = undefined;
    }
  }
}
