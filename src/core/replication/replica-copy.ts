import type { Attribute } from '../../spec/attribute.js';
import { NO_MAXIMUM, type ReadAttribute } from '../../spec/calls.js';
import { CKA, CKR } from '../../spec/codes.js';
import { ck } from '../../spec/constants.js';
import { resultOf, step } from '../../spec/job.js';
import { attributeIn } from '../../spec/rules.js';
import { sameBytes } from '../base/bytes.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { runCall } from '../call/call.js';
import { runOnMember } from '../call/member-job-run.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { hasAliasRecord, knownAliasRecord } from '../group/record-learning.js';
import { isSecretRequest } from '../jobs/creation-request.js';
import { Installation, type InstalledReplica, type PlannedReplica } from '../jobs/installation.js';
import { JobBuilder } from '../jobs/job-builder.js';
import { addWrapping, wrapMethodOf } from '../jobs/key-wrapping.js';
import { findingJob, type MemberJob } from '../jobs/member-job.js';
import { noCodes, type Operation, readAttributes } from '../jobs/operation.js';
import { materialTypes, statedTypes } from '../objects/attribute-sets.js';
import { describedTypes } from '../objects/identity.js';
import type { KeyRecord, Wrapped } from '../objects/key-note.js';
import { attributesOf } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import { type AliasRecord, FIRST_FORMAT } from '../records/record.js';
import { readRecord } from '../records/record-schema.js';
import { keyRecordSearch } from '../records/record-template.js';
import { destroyedAt, keyRecordTypes } from '../records/tombstone.js';
import { learnKeyRecord } from '../replicas/key-record.js';
import { establishReference } from '../replicas/reference.js';
import { checkSigned } from '../wrapping/group-record-signature.js';
import { isCurrent, rewrapSealed } from '../wrapping/resealing.js';
import { aliasOf } from './naming.js';
import { destroyingHandles } from './written-objects.js';

/** Attributes of public objects besides those that keys have too. */
const publicTypes: readonly number[] = [
  'CLASS',
  'KEY_TYPE',
  'CERTIFICATE_TYPE',
  'CERTIFICATE_CATEGORY',
  'ISSUER',
  'SERIAL_NUMBER',
  'URL',
  'APPLICATION',
  'OBJECT_ID',
  'VALUE',
].map((name) => ck(`CKA_${name}`));

/**
 * Installs an object on a member that lacks it, from the members that have it. Returns false if no member has the
 * object, if the object can be neither wrapped nor unsealed, or if the member is lost meanwhile.
 */
export function* copyReplicaTo(
  group: Group,
  object: VirtualObject,
  target: Member,
  deadline: number,
  /** True if a destroy of the object is undone: the member may have its tombstone. */
  isGivenBack = false,
): Task<boolean> {
  yield* learnKeyRecord(group, object);
  // Without its record the copy would be another object.
  if (object.isRecorded && (object.record === undefined || object.record === null)) return false;
  if (!object.referenced) yield* establishReference(group, object, new PendingWork());
  const planned = isSecretRequest(object.description)
    ? yield* planSecretReplica(group, object, deadline, target)
    : yield* planPublicReplica(group, object, deadline, target);
  if (planned === undefined) return false;
  const aliases = missingAliases(group, object, target);
  const records = [...[object.record].flatMap((record) => record ?? []), ...aliases];
  if (isGivenBack) yield* removeTombstones(group, object, target, deadline);
  const installation = new Installation(group, target, 'C_CreateObject', [planned], records);
  const memberJob = installation.memberJob();
  if (memberJob === undefined) return false;
  const end = yield* runOnMember(group, target, memberJob, deadline);
  if (end.kind !== 'done') return false;
  const { installed, wrong, handles } = installation.read(end.reply);
  if (wrong !== undefined) {
    yield* runOnMember(group, target, destroyingHandles({ member: target, login: end.login, handles }), deadline);
    return false;
  }
  for (const { handle } of aliases) end.login.connection.aliased.add(handle);
  const [replica] = installed;
  if (replica !== undefined && end.login.epoch === end.login.connection.epoch)
    noteCopy(group, object, target, end.login.connection, replica);
  return true;
}

/** Lists the aliases of an object, and of its twins, that a member lacks. */
function missingAliases(group: Group, object: VirtualObject, target: Member): AliasRecord[] {
  const twins = group.objects.aliasesOf(object.identity).map(({ handle }) => handle);
  const aliases = [...new Set([object.handle, ...twins])]
    .filter((handle) => !hasAliasRecord(target, handle))
    .flatMap((handle) => knownAliasRecord(group, handle) ?? []);
  // If the handle does not follow from the identity, other processes need an alias to find it.
  const isNamed = object.isRecorded || knownAliasRecord(group, object.handle) !== undefined;
  if (!isNamed && !group.objects.isOwnHandle(object)) aliases.push(aliasOf(group, object));
  return aliases;
}

/** Notes a copy that a member has got. */
function noteCopy(
  group: Group,
  object: VirtualObject,
  target: Member,
  connection: Connection,
  { handle, proven }: InstalledReplica,
): void {
  const { identity, description, valueDigest } = object;
  const known = group.objects.get(object.handle);
  const isKnown = known !== undefined && sameBytes(known.identity, identity);
  const found = { handle: new Uint8Array(handle), description, identity, valueDigest };
  connection.replicas.set(isKnown ? known : object, { kind: 'usable', handle, proven });
  connection.survey?.found.add({ ...found, publicPoint: description.ecPoint });
  group.noteReplicaStatus(target, object, proven ? 'proven' : 'unproven');
}

/** Removes the tombstones of a key that comes back: a destroy was undone, or a backup restored. */
export function* removeTombstones(group: Group, object: VirtualObject, target: Member, deadline: number): Task<void> {
  const { ledger, objects } = group;
  if (ledger.format <= FIRST_FORMAT || !isSecretRequest(object.description)) return;
  const identity = objects.digestOf(object.identity);
  const finding = findingJob(keyRecordSearch(ledger.record, identity), NO_MAXIMUM, keyRecordTypes);
  const found = yield* runOnMember(group, target, finding, deadline);
  if (found.kind !== 'done') return;
  const steps = resultOf(found.reply, 0, 'X_Find').flatMap(({ handle, attributes: [value, label] }) => {
    const record = readRecord(value?.value ?? new Uint8Array());
    const isOwn = typeof record === 'object' && record.kind === 'key' && record.note.handle === object.handle;
    return isOwn && destroyedAt(label?.value) !== undefined ? [step('C_DestroyObject', new Uint8Array(handle))] : [];
  });
  if (steps.length === 0) return;
  const removing: MemberJob = { function: 'C_DestroyObject', objects: [], login: found.login, job: () => ({ steps }) };
  yield* runOnMember(group, target, removing, deadline);
}

/** Returns the attributes that are present and not empty. */
export function valuesIn(types: readonly number[], read: readonly ReadAttribute[]): Attribute[] {
  return types.flatMap((type, index) => {
    const attribute = read[index];
    if (attribute?.presence !== 'present' || attribute.value.length === 0) return [];
    return [{ type, value: new Uint8Array(attribute.value) }];
  });
}

/** Plans the replica of a public object, whose template holds its value; undefined if its class could not be read. */
export function* planPublicReplica(
  group: Group,
  object: VirtualObject,
  deadline: number,
  /** Member that lacks the object. */
  except?: Member,
): Task<PlannedReplica | undefined> {
  const types = [...new Set([...publicTypes, ...statedTypes, ...materialTypes])];
  const read = yield* runCall(group, { ...readAttributes(object, types), except }, deadline);
  const template = valuesIn(types, read);
  if (attributeIn(template, CKA.class) === undefined) return undefined;
  // A certificate needs a value, also an empty one.
  if (attributeIn(template, CKA.value) === undefined && read[types.indexOf(CKA.value)]?.presence === 'present')
    template.push({ type: CKA.value, value: new Uint8Array() });
  return { object, origin: { kind: 'created' }, template, token: true };
}

function* planSecretReplica(
  group: Group,
  object: VirtualObject,
  deadline: number,
  except: Member,
): Task<PlannedReplica | undefined> {
  const { record } = object;
  const wrapped = (yield* sealedForm(group, record, deadline)) ?? (yield* wrapNow(group, object, deadline, except));
  if (wrapped === undefined) return undefined;
  let template: readonly Attribute[];
  if (record === undefined || record === null) {
    const types = [CKA.class, CKA.keyType, ...statedTypes];
    template = valuesIn(types, yield* runCall(group, { ...readAttributes(object, types), except }, deadline));
  } else {
    template = attributesOf(record.template);
  }
  return {
    object,
    origin: { kind: 'unwrapped', wrapped },
    template: template.filter(({ type }) => type !== CKA.token),
    token: true,
  };
}

/** Returns the sealed form from a key record, rewrapped if needed so that every current member can open it. */
function* sealedForm(group: Group, record: KeyRecord | null | undefined, deadline: number): Task<Wrapped | undefined> {
  if (record?.sealed === undefined) return undefined;
  return isCurrent(group, record.sealed) ? record.sealed : yield* rewrapSealed(group, record, deadline);
}

/** Lets a member wrap the key; undefined if the group has no domain key or the key may not be wrapped. */
export function* wrapNow(
  group: Group,
  object: VirtualObject,
  deadline: number,
  /** Member that lacks the key. */
  except?: Member,
): Task<Wrapped | undefined> {
  const { record, domain } = group.ledger;
  if (record === undefined || domain === undefined) return undefined;
  const [length] = yield* runCall(group, { ...readAttributes(object, [CKA.valueLen]), except }, deadline);
  const method = wrapMethodOf(record, object.description, length?.presence === 'present' ? length.value : undefined);
  if (method === 'transports') checkSigned(group);
  let read: ReturnType<typeof addWrapping> = () => undefined;
  const operation: Operation<Wrapped | undefined> = {
    function: 'C_WrapKey',
    objects: [domain, object],
    mechanism: record.wrap,
    aspect: 'pure',
    kind: 'wrap',
    except,
    results: noCodes,
    job: ([wrapping = new Uint8Array(8), key = new Uint8Array(8)]) => {
      const builder = new JobBuilder();
      read = addWrapping(builder, record, method, wrapping, key);
      return { steps: builder.steps, undo: true };
    },
    read: (reply) => read(reply),
  };
  return yield* runCall(group, operation, deadline);
}

/** Reads the attributes that identify an object into `described`, for records of it. */
export function* describeObject(group: Group, object: VirtualObject, deadline: number): Task<void> {
  const read = yield* runCall(group, readAttributes(object, describedTypes), deadline);
  const described = read.map(({ presence, value }) => (presence === 'present' ? new Uint8Array(value) : undefined));
  // A record without a class would take down every member that reads it.
  if (described[describedTypes.indexOf(CKA.class)] === undefined) {
    const explanation =
      'a member has only a part of the object, which an interrupted write left: try again, and run `pkcs11-ha recover`';
    throw new TokenError(CKR.functionFailed, 'C_GetAttributeValue', explanation);
  }
  object.described = described;
}
