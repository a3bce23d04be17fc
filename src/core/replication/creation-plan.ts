import type { Attribute } from '../../spec/attribute.js';
import { CKA } from '../../spec/codes.js';
import { attributeIn } from '../../spec/rules.js';
import type { Task } from '../base/task.js';
import type { Group } from '../group/group.js';
import { type CreationRequest, isSecretRequest, isTrueIn } from '../jobs/creation-request.js';
import type { Origin, PlannedReplica } from '../jobs/installation.js';
import type { KeyRecord } from '../objects/key-note.js';
import { noteAttributes, noteObject } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import { type AliasRecord, type AnyRecord, FIRST_FORMAT } from '../records/record.js';
import { nameObject } from './naming.js';
import type { OriginalObject } from './original-reader.js';
import type { ReplicatedChange } from './replicated-change.js';

/** Original with the virtual object that it becomes, and the alias records that this one needs. */
export interface NamedOriginal {
  readonly original: OriginalObject;
  readonly object: VirtualObject;
  readonly aliases: readonly AliasRecord[];
}

export const objectsOf = (named: readonly NamedOriginal[]): readonly VirtualObject[] =>
  named.map(({ object }) => object);

/** Gives each original its handle. */
export function* nameAll(
  change: ReplicatedChange,
  originals: readonly OriginalObject[],
): Task<readonly NamedOriginal[]> {
  const named: NamedOriginal[] = [];
  for (const original of originals)
    named.push({ original, ...(yield* nameObject(change.group, original, change.deadline)) });
  return named;
}

/** Returns the planned replica of a named original: how a member makes it, and with which template. */
export function plannedReplicaOf(creation: CreationRequest, { original, object }: NamedOriginal): PlannedReplica {
  const origin = originOf(creation, original);
  return { object, origin, template: templateOf(creation, original, origin), token: original.request.token };
}

function originOf(creation: CreationRequest, { request, wrapped, value }: OriginalObject): Origin {
  if (creation.isRepeatable) return { kind: 'made', creation };
  if (!isSecretRequest(request) || (wrapped === undefined && value !== undefined)) return { kind: 'created' };
  return wrapped === undefined ? { kind: 'created' } : { kind: 'unwrapped', wrapped };
}

/** Returns the template for the members: it states what the request left open, so that all members agree. */
function templateOf(creation: CreationRequest, original: OriginalObject, origin: Origin): readonly Attribute[] {
  const { asked } = original.request;
  // Copies state only the attributes that differ from their source.
  if (creation.isCopy) return asked;
  const template = creation.isRepeatable
    ? [...asked, ...original.template.filter(({ type }) => attributeIn(asked, type) === undefined)]
    : [...original.template];
  if (origin.kind === 'created' && original.value !== undefined) {
    const parameters = original.description.ecParams;
    if (parameters.length > 0) template.push({ type: CKA.ecParams, value: parameters });
    template.push({ type: CKA.value, value: original.value });
  }
  return template;
}

/** Returns the records that go with the objects of a call: aliases, and the key records of keys. */
export function recordsOf(
  change: ReplicatedChange,
  creation: CreationRequest,
  named: readonly NamedOriginal[],
): readonly AnyRecord[] {
  const { group } = change;
  const records: AnyRecord[] = [];
  for (const { original, object, aliases } of named) {
    records.push(...aliases);
    if (!isSecretRequest(original.request)) continue;
    const record: KeyRecord = {
      kind: 'key',
      note: noteObject(object),
      identity: shownIdentity(group, object),
      template: noteAttributes(original.template),
      answers: noteAttributes(original.answers),
      sealed: sealedOf(group, creation, original),
      operation: change.operation,
      writer: group.coordinator.writer,
      time: group.nextTimestamp(),
    };
    object.record = record;
    records.push(record);
  }
  return records;
}

/** Returns the identity that the key record of an object shows; undefined in groups of record format 1. */
export function shownIdentity({ ledger, objects }: Group, { identity }: VirtualObject): string | undefined {
  return ledger.format > FIRST_FORMAT ? objects.digestOf(identity) : undefined;
}

/** Returns the sealed form to keep of a key that is not extractable; undefined if the policy keeps none. */
export function sealedOf(
  group: Group,
  creation: CreationRequest,
  { template, wrapped }: OriginalObject,
): KeyRecord['sealed'] {
  if (isTrueIn(template, CKA.extractable) === true || group.policy.nonExtractable !== 'sealed') return undefined;
  const [source] = creation.uses;
  // Copies are the same key as their source, so its sealed form serves for both.
  if (creation.isCopy) return source?.record?.sealed ?? source?.session?.wrapped ?? wrapped;
  return wrapped;
}
