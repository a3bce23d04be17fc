import type { Attribute } from '../../spec/attribute.js';
import { CKA, CKR } from '../../spec/codes.js';
import { resultOf, step } from '../../spec/job.js';
import { attributeIn } from '../../spec/rules.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { runTogether } from '../base/waiting.js';
import { isReachable, runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { type CreationRequest, isPrivateRequest, isSecretRequest, isTrueIn } from '../jobs/creation-request.js';
import type { Origin, PlannedReplica } from '../jobs/installation.js';
import { templateOf as findTemplate } from '../objects/identity.js';
import type { KeyRecord } from '../objects/key-note.js';
import { noteAttributes, noteObject } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import type { AliasRecord, AnyRecord } from '../records/record.js';
import { relearnKeyRecord } from '../replicas/key-record.js';
import { refreshForChange } from '../wrapping/membership-record.js';
import { installAndCommit, installOn, keepReplica, problemOf } from './installation-on-all.js';
import { nameObject } from './naming.js';
import { makeOriginal, type OriginalObject, originalJobOn, pairProofs } from './original.js';
import { carryOut, destroyingHandles, ReplicatedChange, type WrittenObjects } from './replicated-change.js';

/** More objects of one name are not counted. */
const MOST_ALIKE = 64;

/** What a call makes, with its names in the group. */
interface NamedOriginal {
  readonly part: OriginalObject;
  readonly object: VirtualObject;
  readonly aliases: readonly AliasRecord[];
}

/** Throws where the group cannot change objects at all: before any member is touched. */
export function checkWritable(group: Group, functionName: string): void {
  const { ledger } = group;
  const refuse = (code: number, explanation: string): never => {
    throw new TokenError(code, functionName, explanation);
  };
  if (group.pin === undefined) refuse(CKR.userNotLoggedIn, 'nobody has logged in to the members');
  if (ledger.isNewer) refuse(CKR.actionProhibited, 'a later version has written records: this one does not write');
  if (ledger.record === undefined && group.members.some(({ isActive }) => isActive))
    refuse(CKR.functionNotSupported, 'the members have no group record yet: createGroup writes it');
}

function checkPolicy(group: Group, creation: CreationRequest): void {
  checkWritable(group, creation.function);
  if (!group.isLoggedIn && creation.requests.some(isPrivateRequest))
    throw new TokenError(CKR.userNotLoggedIn, creation.function, 'private objects are made by who has logged in');
  if (group.policy.nonExtractable !== 'refuse' || creation.isCopy) return;
  for (const part of creation.requests) {
    if (!isSecretRequest(part) || isTrueIn(part.asked, CKA.extractable) === true) continue;
    throw new TokenError(
      CKR.templateInconsistent,
      creation.function,
      'attribute extractable: policy.nonExtractable allows no key that cannot be taken out',
    );
  }
}

/**
 * Makes objects on all members: once for a moment on one of them, to know what comes of it, then on each of them
 * as it has to be. Ends with the objects when every active member has them, or as many as `durability` says;
 * otherwise with an error, and nothing of them is left anywhere.
 */
export function* createObjects(
  group: Group,
  creation: CreationRequest,
  deadline: number,
): Task<readonly VirtualObject[]> {
  checkPolicy(group, creation);
  group.counters.calls += 1;
  const change = new ReplicatedChange(group, creation.function, deadline);
  const isExternal = group.policy.replication === 'external' && !creation.isRepeatable;
  return yield* carryOut(change, isExternal ? createOnOne(change, creation) : createOnAll(change, creation));
}

function* createOnAll(change: ReplicatedChange, creation: CreationRequest): Task<readonly VirtualObject[]> {
  const { group } = change;
  yield* refreshForChange(group, change.deadline);
  const parts = pairProofs(yield* makeOriginalAgain(change, creation));
  for (const part of parts) checkCopies(change, creation, part);
  const named = yield* nameAll(change, parts);
  try {
    const participants = yield* change.participants();
    const ofToken = named.filter(({ part }) => part.request.token);
    if (ofToken.length > 0) {
      // What is kept of a key that is copied goes with the copy.
      if (creation.isCopy) for (const source of creation.uses) yield* relearnKeyRecord(group, source);
      const before = creation.isRepeatable ? yield* countAlike(change, participants, objectsOf(ofToken)) : 0;
      const going = yield* change.writeIntent(participants, 'create', objectsOf(ofToken), [], [], before);
      const plannedReplicas = ofToken.map((each) => plannedReplicaOf(creation, each));
      const records = recordsOf(change, creation, ofToken);
      yield* installAndCommit(
        change,
        going,
        objectsOf(named),
        () => plannedReplicas,
        () => records,
      );
    }
    const ofSession = named.filter(({ part }) => !part.request.token);
    if (ofSession.length > 0) yield* installInSessions(change, participants, creation, ofSession);
    return objectsOf(named);
  } catch (error) {
    for (const object of objectsOf(named)) group.objects.remove(object);
    throw error;
  }
}

/** Drafts, and once more where the domain key has been replaced in the moment between. */
function* makeOriginalAgain(
  { group, deadline }: ReplicatedChange,
  creation: CreationRequest,
): Task<readonly OriginalObject[]> {
  const { domain } = group.ledger;
  try {
    return yield* makeOriginal(group, creation, deadline);
  } catch (error) {
    if (!(error instanceof TokenError) || error.code !== CKR.keyHandleInvalid) throw error;
    group.recordReadAt = Number.NEGATIVE_INFINITY;
    yield* refreshForChange(group, deadline);
    if (group.ledger.domain === domain) throw error;
    return yield* makeOriginal(group, creation, deadline);
  }
}

/**
 * How many objects of these names a member has at most; where one has any, it may
 * be the very same object, and undoing the call by what is found could take that instead.
 */
function* countAlike(
  change: ReplicatedChange,
  members: readonly Member[],
  objects: readonly VirtualObject[],
): Task<number | 'unknown'> {
  const finds = objects.map((object) => step('X_Find', findTemplate(object.description), MOST_ALIKE, [CKA.token]));
  const ends = yield* runTogether(
    change.group,
    members.map((member) =>
      change.run(member, { function: 'C_FindObjects', objects: [], isReading: true, job: () => ({ steps: finds }) }),
    ),
  );
  let most = 0;
  for (const end of ends) {
    if (end.kind !== 'done') return 'unknown';
    for (const [index] of finds.entries()) {
      const found = resultOf(end.reply, index, 'X_Find');
      if (found.length >= MOST_ALIKE) return 'unknown';
      most = Math.max(most, found.filter(({ attributes: [token] }) => token?.value[0] === 1).length);
    }
  }
  return most;
}

/**
 * Puts an object on all members that is known already: it has its handle, and its form. With the same ends as a call
 * that makes one; `records` gets the name of the operation.
 */
export function* placeObject(
  group: Group,
  functionName: string,
  planned: PlannedReplica,
  records: (operation: string) => readonly AnyRecord[],
  deadline: number,
): Task<void> {
  checkWritable(group, functionName);
  const change = new ReplicatedChange(group, functionName, deadline);
  yield* carryOut(change, createBacked(change, planned, records));
}

function* createBacked(
  change: ReplicatedChange,
  planned: PlannedReplica,
  recordsOf: (operation: string) => readonly AnyRecord[],
): Task<void> {
  const objects = [planned.object];
  try {
    const participants = yield* change.participants();
    const before = yield* countAlike(change, participants, objects);
    const going = yield* change.writeIntent(participants, 'create', objects, [], [], before);
    const records = recordsOf(change.operation);
    yield* installAndCommit(
      change,
      going,
      objects,
      () => [planned],
      () => records,
    );
  } catch (error) {
    change.group.objects.remove(planned.object);
    throw error;
  }
}

/** A key that no member can give to the others is refused before any of them has it. */
function checkCopies(
  change: ReplicatedChange,
  creation: CreationRequest,
  { request, wrapped, value, description }: OriginalObject,
): void {
  if (creation.isRepeatable || !isSecretRequest(request) || wrapped !== undefined || value !== undefined) return;
  const advice =
    'it cannot be copied to the others; make it elsewhere and create it from its value, or make it extractable and not sensitive with policy.clearCopy: allow';
  throw change.failure(CKR.keyNotWrappable, `no member can wrap a key of type ${description.type}: ${advice}`);
}

const objectsOf = (named: readonly NamedOriginal[]): readonly VirtualObject[] => named.map(({ object }) => object);

function* nameAll(change: ReplicatedChange, parts: readonly OriginalObject[]): Task<readonly NamedOriginal[]> {
  const named: NamedOriginal[] = [];
  for (const part of parts) named.push({ part, ...(yield* nameObject(change.group, part, change.deadline)) });
  return named;
}

function originOf(creation: CreationRequest, { request, wrapped, value }: OriginalObject): Origin {
  if (creation.isRepeatable) return { kind: 'made', creation: creation };
  if (!isSecretRequest(request) || (wrapped === undefined && value !== undefined)) return { kind: 'created' };
  return wrapped === undefined ? { kind: 'created' } : { kind: 'unwrapped', wrapped };
}

function plannedReplicaOf(creation: CreationRequest, { part, object }: NamedOriginal): PlannedReplica {
  const origin = originOf(creation, part);
  return { object, origin, template: templateOf(creation, part, origin), token: part.request.token };
}

/** What a member is told: all that the draft has come to know, so that members agree about what was left open. */
function templateOf(creation: CreationRequest, part: OriginalObject, origin: Origin): readonly Attribute[] {
  const { asked } = part.request;
  // A copy says what is other.
  if (creation.isCopy) return asked;
  const template = creation.isRepeatable
    ? [...asked, ...part.template.filter(({ type }) => attributeIn(asked, type) === undefined)]
    : [...part.template];
  if (origin.kind === 'created' && part.value !== undefined) {
    const parameters = part.description.ecParams;
    if (parameters.length > 0) template.push({ type: CKA.ecParams, value: parameters });
    template.push({ type: CKA.value, value: part.value });
  }
  return template;
}

function recordsOf(
  change: ReplicatedChange,
  creation: CreationRequest,
  named: readonly NamedOriginal[],
): readonly AnyRecord[] {
  const { group } = change;
  const records: AnyRecord[] = [];
  for (const { part, object, aliases } of named) {
    records.push(...aliases);
    if (!isSecretRequest(part.request)) continue;
    const record: KeyRecord = {
      kind: 'key',
      note: noteObject(object),
      template: noteAttributes(part.template),
      answers: noteAttributes(part.answers),
      sealed: sealedOf(group, creation, part),
      operation: change.operation,
      writer: group.port.writer,
      time: group.nextTimestamp(),
    };
    object.record = record;
    records.push(record);
  }
  return records;
}

/** The wrapped form that is kept of a key that cannot be wrapped again. */
function sealedOf(group: Group, creation: CreationRequest, { template, wrapped }: OriginalObject): KeyRecord['sealed'] {
  if (isTrueIn(template, CKA.extractable) === true || group.policy.nonExtractable !== 'sealed') return undefined;
  const [source] = creation.uses;
  // A copy is the same key.
  if (creation.isCopy) return source?.record?.sealed ?? source?.session?.wrapped ?? wrapped;
  return wrapped;
}

/** Puts session objects on all members; one that does not get them now does when it needs them. */
function* installInSessions(
  change: ReplicatedChange,
  members: readonly Member[],
  creation: CreationRequest,
  named: readonly NamedOriginal[],
): Task<void> {
  const { group } = change;
  const plannedReplicas = named.map((each) => plannedReplicaOf(creation, each));
  for (const [index, { part, object }] of named.entries()) {
    const isLost =
      isSecretRequest(part.request) &&
      part.wrapped === undefined &&
      attributeIn(part.request.asked, CKA.value) === undefined;
    const template = isLost
      ? []
      : ((part.wrapped === undefined ? plannedReplicas[index]?.template : part.template) ?? []);
    object.session = {
      template,
      wrapped: part.wrapped ?? sealedOf(group, creation, part),
      answers: noteAttributes(part.answers),
    };
  }
  const outcomes = yield* runTogether(
    group,
    members.filter(isReachable).map((member) => installOn(change, member, plannedReplicas, [])),
  );
  const done = outcomes.flatMap((outcome) => (outcome.kind === 'done' ? [outcome] : []));
  const isMade = done.length > 0 && !change.givenUp;
  // What is not right goes again; of a call that has failed, everything.
  const useless = outcomes.flatMap((outcome) =>
    'written' in outcome && (!isMade || outcome.kind === 'wrong') ? [outcome.written] : [],
  );
  yield* runTogether(
    group,
    useless.map((written) => runOnMember(group, written.member, destroyingHandles(written), change.cleanupBy)),
  );
  if (!isMade)
    throw problemOf(change, outcomes, done.length) ?? change.failure(CKR.functionFailed, 'no member made it');
  for (const { written, result } of done) {
    for (const installed of result.installed) keepReplica(group, written.member, written.login, installed);
  }
}

/**
 * Where the vendor's own tool copies keys: one member makes and keeps them, the others get the records. The key
 * never leaves its member, not even wrapped.
 */
function* createOnOne(change: ReplicatedChange, creation: CreationRequest): Task<readonly VirtualObject[]> {
  const { group } = change;
  const participants = yield* change.participants();
  const [member] = participants;
  if (member === undefined || creation.requests.some(({ token }) => !token))
    throw change.failure(CKR.functionNotSupported, 'with policy.replication: external keys are token objects');
  const makingOriginal = originalJobOn(group, creation);
  const end = yield* change.run(member, makingOriginal.memberJob);
  if (end.kind === 'refused') throw change.refusalError(end);
  if (end.kind !== 'done') throw change.failure(CKR.deviceRemoved, `${member.name} was lost`);
  const original = makingOriginal.read(end.reply, { member, connection: end.login.connection });
  const kept: WrittenObjects = { member, login: end.login, handles: original.handles };
  const named = yield* nameAll(change, pairProofs(original.objects));
  try {
    yield* change.writeIntent([member], 'create', objectsOf(named));
    const records = recordsOf(change, creation, named);
    const plannedReplicas = named.map(({ object, part }, index): PlannedReplica => {
      const handle = original.handles[index] ?? new Uint8Array(8);
      return { object, origin: { kind: 'kept', handle, login: end.login }, template: part.template, token: true };
    });
    yield* installAndCommit(
      change,
      participants,
      objectsOf(named),
      (each) => (each === member ? plannedReplicas : []),
      () => records,
    );
    return objectsOf(named);
  } catch (error) {
    for (const object of objectsOf(named)) group.objects.remove(object);
    throw error;
  } finally {
    // Its time may be over; the session objects have to go nevertheless.
    group.keepAlive(group.port.start(runOnMember(group, member, destroyingHandles(kept), change.cleanupBy)));
  }
}
