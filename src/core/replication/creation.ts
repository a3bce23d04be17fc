import { CKA, CKR } from '../../spec/codes.js';
import { resultOf, step } from '../../spec/job.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { runTogether } from '../base/waiting.js';
import { runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { type CreationRequest, isPrivateRequest, isSecretRequest, isTrueIn } from '../jobs/creation-request.js';
import type { PlannedReplica } from '../jobs/installation.js';
import { templateOf as findTemplate } from '../objects/identity.js';
import type { VirtualObject } from '../objects/object.js';
import type { AnyRecord } from '../records/record.js';
import { relearnKeyRecord } from '../replicas/key-record.js';
import { refreshForChange } from '../wrapping/group-record-reading.js';
import { carryOut } from './change-execution.js';
import { nameAll, objectsOf, plannedReplicaOf, recordsOf } from './creation-plan.js';
import { installAndCommit } from './installation-on-all.js';
import { makeOriginal, originalJobOn, pairProofs } from './original.js';
import type { OriginalObject } from './original-reader.js';
import { removeTombstones } from './replica-copy.js';
import { ReplicatedChange } from './replicated-change.js';
import { installInSessions } from './session-installation.js';
import { destroyingHandles, type WrittenObjects } from './written-objects.js';

/** Maximum number of objects of equal identity that are counted on a member. */
const COUNT_LIMIT = 64;

/** Throws if the group cannot change objects at all; called before any member is touched. */
export function checkWritable(group: Group, functionName: string): void {
  const { ledger } = group;
  const refuse = (code: number, explanation: string): never => {
    throw new TokenError(code, functionName, explanation);
  };
  if (group.pin === undefined) refuse(CKR.userNotLoggedIn, 'the group has not logged in to its members');
  if (ledger.isNewer)
    refuse(CKR.actionProhibited, 'a later version has written records in this group: this version does not write');
  if (ledger.record === undefined && group.members.some(({ isActive }) => isActive))
    refuse(CKR.functionNotSupported, 'the members have no group record yet: createGroup writes it');
}

function checkPolicy(group: Group, creation: CreationRequest): void {
  checkWritable(group, creation.function);
  if (!group.isLoggedIn && creation.requests.some(isPrivateRequest))
    throw new TokenError(CKR.userNotLoggedIn, creation.function, 'making a private object needs a login');
  if (group.policy.nonExtractable !== 'refuse' || creation.isCopy) return;
  for (const request of creation.requests) {
    if (!isSecretRequest(request) || isTrueIn(request.asked, CKA.extractable) === true) continue;
    throw new TokenError(
      CKR.templateInconsistent,
      creation.function,
      'attribute extractable: policy.nonExtractable refuses keys that are not extractable',
    );
  }
}

/**
 * Makes objects on all members: first an original on one member, then a replica on each. Returns the objects when every
 * active member has them, or as many members as `durability` says. Otherwise throws, and leaves none of them anywhere
 * (Rule 15).
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
  const originals = pairProofs(yield* makeOriginals(change, creation));
  for (const original of originals) checkCopies(change, creation, original);
  const named = yield* nameAll(change, originals);
  try {
    const participants = yield* change.participants();
    const ofToken = named.filter(({ original }) => original.request.token);
    if (ofToken.length > 0) {
      // Copies take over the sealed form of their source, which another process may have changed.
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
    const ofSession = named.filter(({ original }) => !original.request.token);
    if (ofSession.length > 0) yield* installInSessions(change, participants, creation, ofSession);
    return objectsOf(named);
  } catch (error) {
    for (const object of objectsOf(named)) group.objects.remove(object);
    throw error;
  }
}

/** Makes the originals; tries once more if another process replaced the domain key meanwhile. */
function* makeOriginals(
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
 * Returns the largest number of objects of equal identity that a member has, `unknown` if a member did not tell. If a
 * member has one, undoing the call by what is found could destroy that object instead.
 */
function* countAlike(
  change: ReplicatedChange,
  members: readonly Member[],
  objects: readonly VirtualObject[],
): Task<number | 'unknown'> {
  const finds = objects.map((object) => step('X_Find', findTemplate(object.description), COUNT_LIMIT, [CKA.token]));
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
      if (found.length >= COUNT_LIMIT) return 'unknown';
      most = Math.max(most, found.filter(({ attributes: [token] }) => token?.value[0] === 1).length);
    }
  }
  return most;
}

/**
 * Installs on all members an object that has its handle and its form already, with the same ends as a call that makes
 * one. `records` returns the object's records, given the name of the operation.
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
  yield* carryOut(change, placeOnAll(change, planned, records));
}

function* placeOnAll(
  change: ReplicatedChange,
  planned: PlannedReplica,
  recordsFor: (operation: string) => readonly AnyRecord[],
): Task<void> {
  const objects = [planned.object];
  try {
    const participants = yield* change.participants();
    const before = yield* countAlike(change, participants, objects);
    const going = yield* change.writeIntent(participants, 'create', objects, [], [], before);
    for (const member of going) yield* removeTombstones(change.group, planned.object, member, change.deadline);
    const records = recordsFor(change.operation);
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

/** Throws if no member can give the key to the others; called before any member has the key. */
function checkCopies(
  change: ReplicatedChange,
  creation: CreationRequest,
  { request, wrapped, value, description }: OriginalObject,
): void {
  if (creation.isRepeatable || !isSecretRequest(request) || wrapped !== undefined || value !== undefined) return;
  const advice =
    'the key cannot be copied to the others; make it elsewhere and create it from its value, or make it extractable and not sensitive with policy.clearCopy: allow';
  throw change.failure(CKR.keyNotWrappable, `no member can wrap a key of type ${description.type}: ${advice}`);
}

/**
 * Makes keys if the vendor's own tool copies them: one member makes and keeps the keys, all members get the records. No
 * key leaves its member, not even wrapped.
 */
function* createOnOne(change: ReplicatedChange, creation: CreationRequest): Task<readonly VirtualObject[]> {
  const { group } = change;
  const participants = yield* change.participants();
  const [member] = participants;
  if (member === undefined || creation.requests.some(({ token }) => !token))
    throw change.failure(
      CKR.functionNotSupported,
      'with policy.replication: external every key must be a token object',
    );
  const makingOriginal = originalJobOn(group, creation);
  const end = yield* change.run(member, makingOriginal.memberJob);
  if (end.kind === 'refused') throw change.refusalError(end);
  if (end.kind !== 'done') throw change.failure(CKR.deviceRemoved, `${member.name} was lost`);
  const original = makingOriginal.read(end.reply, { member, connection: end.login.connection });
  const sessionObjects: WrittenObjects = { member, login: end.login, handles: original.handles };
  const named = yield* nameAll(change, pairProofs(original.objects));
  try {
    yield* change.writeIntent([member], 'create', objectsOf(named));
    const records = recordsOf(change, creation, named);
    const plannedReplicas = named.map(({ object, original: { template } }, index): PlannedReplica => {
      const handle = original.handles[index] ?? new Uint8Array(8);
      return { object, origin: { kind: 'kept', handle, login: end.login }, template, token: true };
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
    // Session objects are destroyed in the background, also after the call's deadline.
    group.keepAlive(group.port.start(runOnMember(group, member, destroyingHandles(sessionObjects), change.cleanupBy)));
  }
}
