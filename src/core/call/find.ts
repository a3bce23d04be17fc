import type { Attribute } from '../../spec/attribute.js';
import { CKR } from '../../spec/codes.js';
import { TokenError } from '../base/error.js';
import type { AttemptRecord } from '../base/event.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { learnRecords } from '../group/record-learning.js';
import { isProvenByIdentity } from '../objects/identity.js';
import type { VirtualObject } from '../objects/object.js';
import { nameRecord } from './attempt-end.js';
import { MemberSearch } from './member-search.js';

/** Interval between finds while no member answers (ms). */
const RETRY_AFTER = 25;
/** Interval between finds while a member that may know more does not answer (ms). */
const INCOMPLETE_RETRY_AFTER = 100;

/**
 * Finds the objects that match a template on any serving member, in the order of the first member that has them. An
 * empty answer of one member proves nothing (Rule 14): all members are asked at once, and their answers merged. If a
 * member in step has answered, late members are not waited for. Without an answer of a member in step, members that may
 * know more are waited for (Rule 23).
 */
export function* findObjects(
  group: Group,
  template: readonly Attribute[],
  deadline: number,
  /** Member to ask; undefined to ask all. */
  only?: Member,
): Task<readonly VirtualObject[]> {
  const { port } = group;
  const records: AttemptRecord[] = [];
  let partial: readonly MemberSearch[] = [];
  group.counters.calls += 1;
  for (;;) {
    const searches = startSearches(group, template, deadline, only);
    try {
      const answered = searches.length > 0 ? yield* gather(group, searches, deadline, records) : [];
      if (answered.length > 0) learnFrom(group, answered);
      const whole = only === undefined ? wholeAnswers(group, answered) : answered;
      if (whole.length > 0) return merge(group, whole).filter((object) => group.isVisible(object));
      if (answered.length > 0) partial = answered;
    } finally {
      for (const search of searches) search.attempt.cancel();
    }
    if (port.now() >= deadline || group.isHopeless) throw notWhole(group, partial, records);
    // If no member was blamed, no state changes: the find is tried again after a moment.
    const retryAfter = partial.length > 0 ? INCOMPLETE_RETRY_AFTER : RETRY_AFTER;
    yield* race([group.changed], Math.min(deadline, port.now() + retryAfter));
  }
}

/**
 * Returns the answers that together have every object which the group has confirmed: those of members in step, or those
 * of all members; none if a member that may know more has not answered.
 */
function wholeAnswers({ ledger: { record } }: Group, answered: readonly MemberSearch[]): readonly MemberSearch[] {
  if (record === undefined) return answered;
  const ofInStep = answered.filter(({ isInStep }) => isInStep);
  if (ofInStep.length > 0) return ofInStep;
  const serials = new Set(answered.map(({ member }) => member.serial));
  return record.members.every(({ serial }) => serials.has(serial)) ? answered : [];
}

/** Makes the error of a find that got no whole answer; `answered` are the searches that had an answer. */
function notWhole(group: Group, answered: readonly MemberSearch[], records: readonly AttemptRecord[]): TokenError {
  const names = answered.map(({ member }) => member.name).join(', ');
  const explanation =
    answered.length === 0
      ? 'no member answered'
      : `${names} may lack objects that other members have, and none of these answered`;
  return new TokenError(CKR.deviceRemoved, 'C_FindObjects', `${explanation}: ${group.describeMembers()}`, records);
}

/** Starts searches on the members of the best state that any member has. */
function startSearches(
  group: Group,
  template: readonly Attribute[],
  deadline: number,
  only: Member | undefined,
): MemberSearch[] {
  const inState = (name: string): Member[] =>
    (only === undefined ? group.members : [only]).filter(
      ({ state, connection }) => state.name === name && connection !== undefined && connection.end === undefined,
    );
  // Stale members have missed changes: they are asked only if no member is active or standby.
  let members = inState('active');
  if (members.length === 0) members = inState('standby');
  if (members.length === 0) members = inState('stale');
  if (members.length === 0) members = inState('suspect');
  return members.flatMap((member) => {
    const { connection } = member;
    if (connection === undefined) return [];
    const search = new MemberSearch(group, member, connection);
    group.port.start(search.run(template, deadline));
    return [search];
  });
}

/** Waits for searches; returns those with a result as soon as the others need not be waited for. */
function* gather(
  group: Group,
  searches: readonly MemberSearch[],
  deadline: number,
  records: AttemptRecord[],
): Task<readonly MemberSearch[]> {
  const judged = new Set<MemberSearch>();
  for (;;) {
    for (const search of searches) {
      if (!search.completed || judged.has(search)) continue;
      judged.add(search);
      if (search.objects === undefined) blame(search, records);
    }
    const answered = searches.filter(({ objects }) => objects !== undefined);
    const waiting = searches.filter(({ completed }) => !completed);
    // Answers stand for late members only if a member in step gave one.
    const isComplete = answered.some(({ isInStep }) => isInStep);
    const worthWaiting = waiting.filter(
      ({ late, member }) => !(late && isComplete) && (member.isActive || member.state.name === 'standby'),
    );
    if (waiting.length === 0 || (answered.length > 0 && worthWaiting.length === 0)) return answered;
    if (group.port.now() >= deadline) return answered;
    yield* race([...waiting, group.changed], deadline);
  }
}

/** Records a search that failed, and acts on its verdict; throws if the caller is at fault. */
function blame({ attempt, end, member }: MemberSearch, records: AttemptRecord[]): void {
  const { record } = attempt;
  records.push(nameRecord(record, 'C_FindObjects'));
  if (end?.kind === 'fault') throw end.error;
  if (end?.kind !== 'code') return;
  if (end.verdict === 'caller') throw new TokenError(end.code, end.function, '', records, member.name);
  if (end.verdict === 'busy') member.backOff();
  // A member that cannot list its objects has failed, whatever its code says.
  else member.suspect(attempt.connection, `${record.function} answered ${record.outcome}`);
}

/** Merges the objects of all answers; notes the absence of an object on members that do not have it. */
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

/** Takes in the records that searches read; forgets the references of objects that changed their real handles. */
function learnFrom(group: Group, answered: readonly MemberSearch[]): void {
  const records = answered.flatMap(({ records: read }) => read ?? []);
  if (records.length > 0) learnRecords(group, records);
  group.onRecordsRead(records);
  for (const { mapping } of answered) {
    for (const object of mapping.moved) {
      if (answered.some((each) => each.mapping.intact.has(object)) || isProvenByIdentity(object.description)) continue;
      // If no member has the object that was proven, the objects in its place must be proven anew (Rule 12).
      object.reference.clear();
      object.referenced = false;
      object.record = undefined;
    }
  }
}
