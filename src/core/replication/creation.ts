import type { Attribute } from '../../spec/attribute.js';
import { ck } from '../../spec/constants.js';
import { resultOf, step } from '../../spec/job.js';
import { attributeIn } from '../../spec/rules.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { isReachable, runErrand, together } from '../call/errand.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { Origin, Piece } from '../jobs/installation.js';
import { isPrivatePart, isSecretPart, isTrueIn, type Making } from '../jobs/making.js';
import { templateOf as findTemplate } from '../objects/identity.js';
import type { KeyRecord } from '../objects/key-note.js';
import { noteAttributes, noteObject } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import type { AliasRecord, AnyRecord } from '../records/record.js';
import { relearnKeyRecord } from '../replicas/key-record.js';
import { refreshForChange } from '../wrapping/membership-record.js';
import { Change, carryOut, destroyingHandles, type Written } from './change.js';
import { type DraftPart, draft, draftingOn, pairProofs } from './draft.js';
import { nameObject } from './naming.js';
import { installAndCommit, installOn, keepReplica, problemOf } from './replication.js';

const CKA = {
  extractable: ck('CKA_EXTRACTABLE'),
  token: ck('CKA_TOKEN'),
  value: ck('CKA_VALUE'),
} as const;

const CKR = {
  actionProhibited: ck('CKR_ACTION_PROHIBITED'),
  deviceRemoved: ck('CKR_DEVICE_REMOVED'),
  functionFailed: ck('CKR_FUNCTION_FAILED'),
  functionNotSupported: ck('CKR_FUNCTION_NOT_SUPPORTED'),
  keyHandleInvalid: ck('CKR_KEY_HANDLE_INVALID'),
  keyNotWrappable: ck('CKR_KEY_NOT_WRAPPABLE'),
  templateInconsistent: ck('CKR_TEMPLATE_INCONSISTENT'),
  userNotLoggedIn: ck('CKR_USER_NOT_LOGGED_IN'),
} as const;

/** More objects of one name are not counted. */
const MOST_ALIKE = 64;

/** What a call makes, with its names in the group. */
interface Named {
  readonly part: DraftPart;
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

function checkPolicy(group: Group, making: Making): void {
  checkWritable(group, making.function);
  if (!group.isLoggedIn && making.parts.some(isPrivatePart))
    throw new TokenError(CKR.userNotLoggedIn, making.function, 'private objects are made by who has logged in');
  if (group.policy.nonExtractable !== 'refuse' || making.isCopy) return;
  for (const part of making.parts) {
    if (!isSecretPart(part) || isTrueIn(part.asked, CKA.extractable) === true) continue;
    throw new TokenError(
      CKR.templateInconsistent,
      making.function,
      'attribute extractable: policy.nonExtractable allows no key that cannot be taken out',
    );
  }
}

/**
 * Makes objects on all members: once for a moment on one of them, to know what comes of it, then on each of them
 * as it has to be. Ends with the objects when every active member has them, or as many as `durability` says;
 * otherwise with an error, and nothing of them is left anywhere.
 */
export function* createObjects(group: Group, making: Making, deadline: number): Task<readonly VirtualObject[]> {
  checkPolicy(group, making);
  group.counters.calls += 1;
  const change = new Change(group, making.function, deadline);
  const isExternal = group.policy.replication === 'external' && !making.isRepeatable;
  return yield* carryOut(change, isExternal ? createOnOne(change, making) : createOnAll(change, making));
}

function* createOnAll(change: Change, making: Making): Task<readonly VirtualObject[]> {
  const { group } = change;
  yield* refreshForChange(group, change.deadline);
  const parts = pairProofs(yield* draftAnew(change, making));
  for (const part of parts) checkCopies(change, making, part);
  const named = yield* nameAll(change, parts);
  try {
    const participants = yield* change.participants();
    const ofToken = named.filter(({ part }) => part.request.token);
    if (ofToken.length > 0) {
      // What is kept of a key that is copied goes with the copy.
      if (making.isCopy) for (const source of making.uses) yield* relearnKeyRecord(group, source);
      const before = making.isRepeatable ? yield* countAlike(change, participants, objectsOf(ofToken)) : 0;
      const going = yield* change.announce(participants, 'create', objectsOf(ofToken), [], [], before);
      const pieces = ofToken.map((each) => pieceOf(making, each));
      const records = recordsOf(change, making, ofToken);
      yield* installAndCommit(
        change,
        going,
        objectsOf(named),
        () => pieces,
        () => records,
      );
    }
    const ofSession = named.filter(({ part }) => !part.request.token);
    if (ofSession.length > 0) yield* installInSessions(change, participants, making, ofSession);
    return objectsOf(named);
  } catch (error) {
    for (const object of objectsOf(named)) group.objects.remove(object);
    throw error;
  }
}

/** Drafts, and once more where the domain key has been replaced in the moment between. */
function* draftAnew({ group, deadline }: Change, making: Making): Task<readonly DraftPart[]> {
  const { domain } = group.ledger;
  try {
    return yield* draft(group, making, deadline);
  } catch (error) {
    if (!(error instanceof TokenError) || error.code !== CKR.keyHandleInvalid) throw error;
    group.recordReadAt = Number.NEGATIVE_INFINITY;
    yield* refreshForChange(group, deadline);
    if (group.ledger.domain === domain) throw error;
    return yield* draft(group, making, deadline);
  }
}

/**
 * How many objects of these names a member has at most; where one has any, it may
 * be the very same object, and undoing the call by what is found could take that instead.
 */
function* countAlike(
  change: Change,
  members: readonly Member[],
  objects: readonly VirtualObject[],
): Task<number | 'unknown'> {
  const finds = objects.map((object) => step('X_Find', findTemplate(object.description), MOST_ALIKE, [CKA.token]));
  const ends = yield* together(
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
  piece: Piece,
  records: (operation: string) => readonly AnyRecord[],
  deadline: number,
): Task<void> {
  checkWritable(group, functionName);
  const change = new Change(group, functionName, deadline);
  yield* carryOut(change, place(change, piece, records));
}

function* place(change: Change, piece: Piece, recordsOf: (operation: string) => readonly AnyRecord[]): Task<void> {
  const objects = [piece.object];
  try {
    const participants = yield* change.participants();
    const before = yield* countAlike(change, participants, objects);
    const going = yield* change.announce(participants, 'create', objects, [], [], before);
    const records = recordsOf(change.operation);
    yield* installAndCommit(
      change,
      going,
      objects,
      () => [piece],
      () => records,
    );
  } catch (error) {
    change.group.objects.remove(piece.object);
    throw error;
  }
}

/** A key that no member can give to the others is refused before any of them has it. */
function checkCopies(change: Change, making: Making, { request, wrapped, value, description }: DraftPart): void {
  if (making.isRepeatable || !isSecretPart(request) || wrapped !== undefined || value !== undefined) return;
  const advice =
    'it cannot be copied to the others; make it elsewhere and create it from its value, or make it extractable and not sensitive with policy.clearCopy: allow';
  throw change.failure(CKR.keyNotWrappable, `no member can wrap a key of type ${description.type}: ${advice}`);
}

const objectsOf = (named: readonly Named[]): readonly VirtualObject[] => named.map(({ object }) => object);

function* nameAll(change: Change, parts: readonly DraftPart[]): Task<readonly Named[]> {
  const named: Named[] = [];
  for (const part of parts) named.push({ part, ...(yield* nameObject(change.group, part, change.deadline)) });
  return named;
}

function originOf(making: Making, { request, wrapped, value }: DraftPart): Origin {
  if (making.isRepeatable) return { kind: 'made', making };
  if (!isSecretPart(request) || (wrapped === undefined && value !== undefined)) return { kind: 'created' };
  return wrapped === undefined ? { kind: 'created' } : { kind: 'unwrapped', wrapped };
}

function pieceOf(making: Making, { part, object }: Named): Piece {
  const origin = originOf(making, part);
  return { object, origin, template: templateOf(making, part, origin), token: part.request.token };
}

/** What a member is told: all that the draft has come to know, so that members agree about what was left open. */
function templateOf(making: Making, part: DraftPart, origin: Origin): readonly Attribute[] {
  const { asked } = part.request;
  // A copy says what is other.
  if (making.isCopy) return asked;
  const template = making.isRepeatable
    ? [...asked, ...part.template.filter(({ type }) => attributeIn(asked, type) === undefined)]
    : [...part.template];
  if (origin.kind === 'created' && part.value !== undefined) {
    const parameters = part.description.ecParams;
    if (parameters.length > 0) template.push({ type: ck('CKA_EC_PARAMS'), value: parameters });
    template.push({ type: CKA.value, value: part.value });
  }
  return template;
}

function recordsOf(change: Change, making: Making, named: readonly Named[]): readonly AnyRecord[] {
  const { group } = change;
  const records: AnyRecord[] = [];
  for (const { part, object, aliases } of named) {
    records.push(...aliases);
    if (!isSecretPart(part.request)) continue;
    const record: KeyRecord = {
      kind: 'key',
      note: noteObject(object),
      template: noteAttributes(part.template),
      answers: noteAttributes(part.answers),
      sealed: sealedOf(group, making, part),
      operation: change.operation,
      writer: group.port.writer,
      time: group.tick(),
    };
    object.record = record;
    records.push(record);
  }
  return records;
}

/** The wrapped form that is kept of a key that cannot be wrapped again. */
function sealedOf(group: Group, making: Making, { template, wrapped }: DraftPart): KeyRecord['sealed'] {
  if (isTrueIn(template, CKA.extractable) === true || group.policy.nonExtractable !== 'sealed') return undefined;
  const [source] = making.uses;
  // A copy is the same key.
  if (making.isCopy) return source?.record?.sealed ?? source?.session?.wrapped ?? wrapped;
  return wrapped;
}

/** Puts session objects on all members; one that does not get them now does when it needs them. */
function* installInSessions(
  change: Change,
  members: readonly Member[],
  making: Making,
  named: readonly Named[],
): Task<void> {
  const { group } = change;
  const pieces = named.map((each) => pieceOf(making, each));
  for (const [index, { part, object }] of named.entries()) {
    const isLost =
      isSecretPart(part.request) &&
      part.wrapped === undefined &&
      attributeIn(part.request.asked, CKA.value) === undefined;
    const template = isLost ? [] : ((part.wrapped === undefined ? pieces[index]?.template : part.template) ?? []);
    object.session = {
      template,
      wrapped: part.wrapped ?? sealedOf(group, making, part),
      answers: noteAttributes(part.answers),
    };
  }
  const outcomes = yield* together(
    group,
    members.filter(isReachable).map((member) => installOn(change, member, pieces, [])),
  );
  const done = outcomes.flatMap((outcome) => (outcome.kind === 'done' ? [outcome] : []));
  const isMade = done.length > 0 && !change.givenUp;
  // What is not right goes again; of a call that has failed, everything.
  const useless = outcomes.flatMap((outcome) =>
    'written' in outcome && (!isMade || outcome.kind === 'wrong') ? [outcome.written] : [],
  );
  yield* together(
    group,
    useless.map((written) => runErrand(group, written.member, destroyingHandles(written), change.settleBy)),
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
function* createOnOne(change: Change, making: Making): Task<readonly VirtualObject[]> {
  const { group } = change;
  const participants = yield* change.participants();
  const [member] = participants;
  if (member === undefined || making.parts.some(({ token }) => !token))
    throw change.failure(CKR.functionNotSupported, 'with policy.replication: external keys are token objects');
  const drafting = draftingOn(group, making);
  const end = yield* change.run(member, drafting.errand);
  if (end.kind === 'refused') throw change.refusal(end);
  if (end.kind !== 'done') throw change.failure(CKR.deviceRemoved, `${member.name} was lost`);
  const drafted = drafting.read(end.reply, { member, connection: end.login.connection });
  const kept: Written = { member, login: end.login, handles: drafted.handles };
  const named = yield* nameAll(change, pairProofs(drafted.parts));
  try {
    yield* change.announce([member], 'create', objectsOf(named));
    const records = recordsOf(change, making, named);
    const pieces = named.map(({ object, part }, index): Piece => {
      const handle = drafted.handles[index] ?? new Uint8Array(8);
      return { object, origin: { kind: 'kept', handle, login: end.login }, template: part.template, token: true };
    });
    yield* installAndCommit(
      change,
      participants,
      objectsOf(named),
      (each) => (each === member ? pieces : []),
      () => records,
    );
    return objectsOf(named);
  } catch (error) {
    for (const object of objectsOf(named)) group.objects.remove(object);
    throw error;
  } finally {
    // Its time may be over; the session objects have to go nevertheless.
    group.keepAlive(group.port.start(runErrand(group, member, destroyingHandles(kept), change.settleBy)));
  }
}
