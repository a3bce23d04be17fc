import { type Attribute, attributeOf } from '../../spec/attribute.js';
import type { ReadAttribute } from '../../spec/calls.js';
import { CKA, CKR } from '../../spec/codes.js';
import { type JobReply, resultOf } from '../../spec/job.js';
import { attributeIn, checkChange } from '../../spec/rules.js';
import { CKR_OK } from '../../spec/verdict.js';
import { sameBytes } from '../base/bytes.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { findObjects } from '../call/find.js';
import { isReachable, type MemberJobEnd } from '../call/member-job-run.js';
import { readObject } from '../call/reading.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { knownAliasRecord } from '../group/record-learning.js';
import { isTrueIn } from '../jobs/creation-request.js';
import { withAttribute } from '../jobs/job-builder.js';
import { describedTypes, describeValues, identityOf, isReserved, templateOf } from '../objects/identity.js';
import type { KeyRecord } from '../objects/key-note.js';
import type { VirtualObject } from '../objects/object.js';
import { relearnKeyRecord } from '../replicas/key-record.js';
import { refreshForChange } from '../wrapping/group-record-reading.js';
import {
  type AttributeChange,
  type ChangedRecords,
  changedBy,
  changingAttributes,
  recordAfter,
  restoringAttributes,
} from './attribute-change-job.js';
import { abandonedError, carryOutOnceBegun } from './change-execution.js';
import { checkWritable } from './creation.js';
import { learnWritten } from './installation-on-all.js';
import { renameAmong } from './naming.js';
import { runMarked } from './position-mark.js';
import { describeObject, wrapNow } from './replica-copy.js';
import { ReplicatedChange } from './replicated-change.js';

/**
 * Changes attributes on one member after the other, and verifies each, so that a write never goes wrong on all members
 * (Rule 9). A renamed object keeps its handle.
 */
export function* changeAttributes(
  group: Group,
  object: VirtualObject,
  changes: readonly Attribute[],
  deadline: number,
): Task<void> {
  const name = 'C_SetAttributeValue';
  checkWritable(group, name);
  const violation = checkChange(changes, object.description.class);
  if (violation !== undefined) throw new TokenError(violation.code, name, violation.explanation);
  if (isReserved(attributeIn(changes, CKA.label) ?? new Uint8Array())) {
    const explanation = "attribute label: labels that begin with 'pkcs11-ha:' are reserved for the group";
    throw new TokenError(CKR.attributeValueInvalid, name, explanation);
  }
  group.counters.calls += 1;
  if (changes.length === 0) return;
  yield* carryOutOnceBegun(
    () => new ReplicatedChange(group, name, deadline),
    (change) => applyChange(change, object, changes),
  );
}

function* applyChange(change: ReplicatedChange, object: VirtualObject, changes: readonly Attribute[]): Task<void> {
  const { group } = change;
  yield* refreshForChange(group, change.deadline);
  // An object that was met before the login gets its lasting handle by a find.
  if (object.isProvisional) yield* findObjects(group, templateOf(object.description), change.deadline);
  const types = changes.map(({ type }) => type);
  // Reads what the intent says after the wait for members: another process may change the object meanwhile.
  const participants = yield* change.participants();
  yield* describeObject(group, object, change.deadline);
  yield* noticeRename(group, object, change.deadline);
  const isRead = yield* relearnKeyRecord(group, object);
  // Other tasks may read the record of the same object meanwhile.
  const { record: base } = object;
  if (object.isRecorded && (!isRead || base === undefined || base === null))
    throw change.failure(CKR.deviceRemoved, `no member could give the record of the key: ${group.describeMembers()}`);
  const former = formerOf(object, valuesOf(types, yield* readObject(group, object, types, change.deadline)));
  const values: AttributeChange = { changes, former };
  const isSession = object.session !== undefined;
  const { renamed, after, needsAlias } = changedBy(object, changes);
  const aliases = isSession || !needsAlias ? [] : yield* renameAmong(group, after, change.deadline);
  const sealed = yield* sealNow(change, object, changes);
  const going = isSession ? participants : yield* change.writeIntent(participants, 'set', [object], changes, former);
  const record = recordAfter(group, base, after, changes, sealed);
  const before = knownAliasRecord(group, object.handle);
  const done = yield* applyToAll(change, going, object, values, { aliases, before, record });
  change.markCommitted(undefined);
  if (object.session !== undefined) {
    for (const each of changes) object.session.template = withAttribute(object.session.template, each);
  }
  const own = aliases.find(({ handle }) => handle === object.handle);
  object.use = own?.use ?? after.use;
  for (const alias of aliases) {
    if (alias === own) group.objects.dropAlias(object.handle);
    learnWritten(group, alias);
  }
  if (renamed !== undefined) {
    group.objects.rename(object, renamed.identity, renamed.description);
    object.described = renamed.described;
  }
  if (record !== undefined) {
    object.record = record;
    learnWritten(group, record);
  }
  if (!isSession) yield* change.commit(done, undefined);
}

/**
 * Updates the object if another process has renamed it. If the aliases still say the known identity, the member that
 * described the object has missed a rename: its label and ID are replaced by those of the known description.
 */
function* noticeRename(group: Group, object: VirtualObject, deadline: number): Task<void> {
  if (object.session !== undefined) return;
  const description = describeValues(object.described);
  const identity = identityOf(description, object.valueDigest);
  if (sameBytes(identity, object.identity)) return;
  group.ledger.aliasesReadAt = Number.NEGATIVE_INFINITY;
  yield* findObjects(group, templateOf(description), deadline);
  if (sameBytes(identity, object.identity)) return;
  const { label, id } = object.description;
  object.described = object.described.map((value, index) => {
    const type = describedTypes[index];
    if (type === CKA.label) return label;
    return type === CKA.id && value !== undefined ? id : value;
  });
}

/** Wraps a key that is about to lose CKA_EXTRACTABLE; undefined if the policy keeps no sealed form or one exists. */
function* sealNow(
  { group, deadline }: ReplicatedChange,
  object: VirtualObject,
  changes: readonly Attribute[],
): Task<KeyRecord['sealed']> {
  const needsSeal = isTrueIn(changes, CKA.extractable) === false && group.policy.nonExtractable === 'sealed';
  if (!needsSeal || object.record === undefined || object.record === null || object.record.sealed !== undefined)
    return undefined;
  return yield* wrapNow(group, object, deadline);
}

/** Returns the attributes that are present, empty ones included. */
function valuesOf(types: readonly number[], read: readonly ReadAttribute[]): Attribute[] {
  return types.flatMap((type, index) => {
    const attribute = read[index];
    return attribute?.presence === 'present' ? [{ type, value: new Uint8Array(attribute.value) }] : [];
  });
}

/** Returns the values that a change replaces; the names among them as they are known, since a member may be behind. */
function formerOf({ described }: VirtualObject, read: readonly Attribute[]): readonly Attribute[] {
  return read.map(({ type, value }) => ({ type, value: described[describedTypes.indexOf(type)] ?? value }));
}

/** Changes the object on one member after the other; if a member refuses, those before it get their values back. */
function* applyToAll(
  change: ReplicatedChange,
  members: readonly Member[],
  object: VirtualObject,
  { changes, former }: AttributeChange,
  records: ChangedRecords,
): Task<readonly Member[]> {
  const { group } = change;
  const done: Member[] = [];
  const doubtful: Member[] = [];
  let lost = 0;
  for (const member of members) {
    if (!isReachable(member)) {
      lost += 1;
      doubtful.push(member);
      continue;
    }
    const isLate = change.givenUp || group.port.now() >= change.deadline;
    const end = isLate ? undefined : yield* runMarked(change, member, changingAttributes(object, changes, records));
    if (end?.kind === 'done') {
      const problem = verify(end.reply, changes);
      if (problem === undefined) {
        done.push(member);
        continue;
      }
      yield* takeBack(change, [...done, member], doubtful, object, former, records);
      throw abandonedError(change, change.failure(CKR.functionFailed, `${problem} on ${member.name}`));
    }
    if (end?.kind === 'gone' || end?.kind === 'lacks') {
      if (end.kind === 'gone' && !end.begun) lost += 1;
      doubtful.push(member);
      continue;
    }
    if (end !== undefined && isMemberFault(end, done)) {
      if (member.connection !== undefined)
        member.suspect(member.connection, `the member answered ${end.record.outcome}`);
      continue;
    }
    yield* takeBack(change, done, doubtful, object, former, records);
    throw abandonedError(
      change,
      end === undefined
        ? change.failure(CKR.functionFailed, 'the deadline passed before all members had the new values')
        : change.refusalError(end),
    );
  }
  const { durability } = group.policy;
  if (done.length >= (durability === 'all' ? 1 : durability) && !change.givenUp) return done;
  yield* takeBack(change, done, doubtful, object, former, records);
  change.hasNotBegun = lost === members.length;
  throw abandonedError(
    change,
    change.failure(CKR.deviceRemoved, `too few members took the new values: ${group.describeMembers()}`),
  );
}

/** Returns true if a refusal says something about the member: other members took the change. */
function isMemberFault(end: MemberJobEnd, done: readonly Member[]): boolean {
  return end.kind === 'refused' && end.verdict === 'ambiguous' && done.length > 0;
}

/** Compares the values that were read back with those that were written; returns the problem, undefined if none. */
function verify(reply: JobReply, changes: readonly Attribute[]): string | undefined {
  const at = reply.results.findIndex(({ call }) => call === 'C_GetAttributeValue');
  if (reply.results[at]?.code !== CKR_OK) return 'the new values could not be read back';
  const read = resultOf(reply, at, 'C_GetAttributeValue');
  const wrong = changes.find(({ value }, index) => !sameBytes(read[index]?.value ?? new Uint8Array(), value));
  return wrong === undefined
    ? undefined
    : `attribute ${attributeOf('template', wrong.type).name} did not take its new value`;
}

/** Restores the former values on members that have the new ones, then abandons the change. */
function* takeBack(
  change: ReplicatedChange,
  done: readonly Member[],
  doubtful: readonly Member[],
  object: VirtualObject,
  former: readonly Attribute[],
  records: ChangedRecords,
): Task<void> {
  const left: Member[] = [...doubtful];
  for (const member of done) {
    const end = yield* change.run(member, restoringAttributes(change.group, object, former, records), change.cleanupBy);
    if (end.kind !== 'done') left.push(member);
  }
  yield* change.abandon(
    done.filter((member) => !left.includes(member)),
    left,
  );
}
