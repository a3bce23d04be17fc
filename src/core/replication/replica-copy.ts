import type { Attribute } from '../../spec/attribute.js';
import type { ReadAttribute } from '../../spec/calls.js';
import { CKA, CKK, CKO } from '../../spec/codes.js';
import { ck } from '../../spec/constants.js';
import { attributeIn } from '../../spec/rules.js';
import type { Task } from '../base/task.js';
import { runCall } from '../call/call.js';
import { runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import { PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { isSecretRequest } from '../jobs/creation-request.js';
import { Installation, type PlannedReplica } from '../jobs/installation.js';
import { JobBuilder } from '../jobs/job-builder.js';
import { addWrapping, wrapMethodFor } from '../jobs/key-wrapping.js';
import { noCodes, type Operation, readAttributes } from '../jobs/operation.js';
import { materialTypes, statedTypes } from '../objects/attribute-sets.js';
import { describedTypes } from '../objects/identity.js';
import type { KeyRecord, Wrapped } from '../objects/key-note.js';
import { attributesOf } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import { learnKeyRecord } from '../replicas/key-record.js';
import { establishReference } from '../replicas/reference.js';
import { isCurrent, rewrapSealed } from '../wrapping/resealing.js';
import { aliasOf } from './naming.js';
import { destroyingHandles } from './replicated-change.js';

/** What public objects are made of, besides what keys have too. */
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
 * Puts an object on a member that should have it and does not, from the members that do. False when it cannot be:
 * nobody has it, it cannot be wrapped and no sealed form was kept, or the member is lost meanwhile.
 */
export function* copyReplicaTo(group: Group, object: VirtualObject, target: Member, deadline: number): Task<boolean> {
  yield* learnKeyRecord(group, object);
  if (!object.referenced) yield* establishReference(group, object, new PendingWork());
  const planned = isSecretRequest(object.description)
    ? yield* planSecretReplica(group, object, deadline)
    : yield* planPublicReplica(group, object, deadline);
  if (planned === undefined) return false;
  // Also those of its twins, which the member may not have either.
  const twins = group.objects.aliasesOf(object.identity).map(({ handle }) => handle);
  const aliases = [...new Set([object.handle, ...twins])]
    .filter((handle) => target.connection?.hasAlias(handle) !== true)
    .flatMap((handle) => group.ledger.aliasOf(handle) ?? []);
  // Without one nobody could tell the handle of what does not go by its first name any more.
  if (group.ledger.aliasOf(object.handle) === undefined && !group.objects.isOwnHandle(object))
    aliases.push(aliasOf(group, object));
  const records = [...[object.record].flatMap((record) => record ?? []), ...aliases];
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
  const [made] = installed;
  if (made !== undefined && end.login.epoch === end.login.connection.epoch) {
    end.login.connection.replicas.set(object, { kind: 'usable', handle: made.handle, proven: made.proven });
    group.noteReplicaStatus(target, object, made.proven ? 'proven' : 'unproven');
    const { identity, description, valueDigest } = object;
    const handle = new Uint8Array(made.handle);
    end.login.connection.survey?.found.add({
      handle,
      description,
      identity,
      valueDigest,
      publicPoint: description.ecPoint,
    });
  }
  return true;
}

/** The attributes that were there. */
export function valuesIn(types: readonly number[], read: readonly ReadAttribute[]): Attribute[] {
  return types.flatMap((type, index) => {
    const attribute = read[index];
    if (attribute?.presence !== 'present' || attribute.value.length === 0) return [];
    return [{ type, value: new Uint8Array(attribute.value) }];
  });
}

/** A public object as it can be made again: its template holds its value. */
export function* planPublicReplica(
  group: Group,
  object: VirtualObject,
  deadline: number,
): Task<PlannedReplica | undefined> {
  const types = [...new Set([...publicTypes, ...statedTypes, ...materialTypes])];
  const read = yield* runCall(group, readAttributes(object, types), deadline);
  const template = valuesIn(types, read);
  if (attributeIn(template, CKA.class) === undefined) return undefined;
  return { object, origin: { kind: 'created' }, template, token: true };
}

function* planSecretReplica(group: Group, object: VirtualObject, deadline: number): Task<PlannedReplica | undefined> {
  const { record } = object;
  const wrapped = (yield* sealedForm(group, record, deadline)) ?? (yield* wrapNow(group, object, deadline));
  if (wrapped === undefined) return undefined;
  let template: readonly Attribute[];
  if (record === undefined || record === null) {
    const types = [CKA.class, CKA.keyType, ...statedTypes];
    template = valuesIn(types, yield* runCall(group, readAttributes(object, types), deadline));
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

/** What is kept of a key that cannot be wrapped again, as every member of now can open it. */
function* sealedForm(group: Group, record: KeyRecord | null | undefined, deadline: number): Task<Wrapped | undefined> {
  if (record?.sealed === undefined) return undefined;
  return isCurrent(group, record.sealed) ? record.sealed : yield* rewrapSealed(group, record, deadline);
}

/** Has a member wrap the key; undefined where it may not be. */
export function* wrapNow(group: Group, object: VirtualObject, deadline: number): Task<Wrapped | undefined> {
  const { record, domain } = group.ledger;
  if (record === undefined || domain === undefined) return undefined;
  const { description } = object;
  const [length] = yield* runCall(group, readAttributes(object, [CKA.valueLen]), deadline);
  const known =
    length?.presence === 'present' && length.value.length === 8 ? Number(length.value.readBigUInt64LE()) : 0;
  const isGeneric = description.class === CKO.secretKey && description.type === CKK.genericSecret;
  const way = wrapMethodFor(record, isGeneric, known === 0 ? undefined : known);
  let read: ReturnType<typeof addWrapping> = () => undefined;
  const operation: Operation<Wrapped | undefined> = {
    function: 'C_WrapKey',
    objects: [domain, object],
    mechanism: record.wrap,
    aspect: 'pure',
    kind: 'wrap',
    results: noCodes,
    job: ([wrapping = new Uint8Array(8), key = new Uint8Array(8)]) => {
      const builder = new JobBuilder();
      read = addWrapping(builder, record, way, wrapping, key);
      return { steps: builder.steps, undo: true };
    },
    read: (reply) => read(reply),
  };
  return yield* runCall(group, operation, deadline);
}

/** What identifies an object, as notes of it need it. */
export function* describeObject(group: Group, object: VirtualObject, deadline: number): Task<void> {
  const read = yield* runCall(group, readAttributes(object, describedTypes), deadline);
  object.described = read.map(({ presence, value }) => (presence === 'present' ? new Uint8Array(value) : undefined));
}
