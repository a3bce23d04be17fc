import type { Attribute } from '../../spec/attribute.js';
import { CKA } from '../../spec/codes.js';
import { optional, step } from '../../spec/job.js';
import { attributeIn } from '../../spec/rules.js';
import { sameBytes } from '../base/bytes.js';
import type { Group } from '../group/group.js';
import { knownAliasRecord } from '../group/record-learning.js';
import { JobBuilder } from '../jobs/job-builder.js';
import type { MemberJob } from '../jobs/member-job.js';
import { describedTypes, describeValues, identityOf, templateOf } from '../objects/identity.js';
import type { KeyRecord } from '../objects/key-note.js';
import { noteAttributes, noteObject } from '../objects/note.js';
import { detached, type VirtualObject } from '../objects/object.js';
import type { AliasRecord, AnyRecord } from '../records/record.js';
import { keyRecordTemplate, labelTemplate } from '../records/record-template.js';
import { useTypes } from '../replicas/copies.js';
import { shownIdentity } from './creation-plan.js';
import { aliasOf } from './naming.js';

/** Records that are written together with the new values. */
export interface ChangedRecords {
  /** Aliases from the new identity to the object's handle, and to the handles of other objects of that identity. */
  readonly aliases: readonly AliasRecord[];
  /** Alias of the object before the change. */
  readonly before: AliasRecord | undefined;
  readonly record: KeyRecord | undefined;
}

/** Values that a change gives, and the values that they replace. */
export interface AttributeChange {
  readonly changes: readonly Attribute[];
  readonly former: readonly Attribute[];
}

/** Returns the object under the identity that a change gives it; undefined if the identity stays. */
function renamedBy(object: VirtualObject, changes: readonly Attribute[]): VirtualObject | undefined {
  if (attributeIn(changes, CKA.label) === undefined && attributeIn(changes, CKA.id) === undefined) return undefined;
  const described = describedTypes.map((type, index) => attributeIn(changes, type) ?? object.described[index]);
  const description = describeValues(described);
  const identity = identityOf(description, object.valueDigest);
  if (sameBytes(identity, object.identity)) return undefined;
  return Object.assign(detached(object), { identity, description, described });
}

/** Returns the object after a change, also as renamed if its identity changes, and whether aliases must tell that. */
export function changedBy(
  object: VirtualObject,
  changes: readonly Attribute[],
): { readonly renamed: VirtualObject | undefined; readonly after: VirtualObject; readonly needsAlias: boolean } {
  const renamed = renamedBy(object, changes);
  const use = useAfter(object, changes);
  const after = withUse(renamed ?? object, use);
  return { renamed, after, needsAlias: renamed !== undefined || use !== object.use };
}

/** Returns the usage flags of a copy after a change; undefined if the object has no copies to be told from. */
function useAfter({ use }: VirtualObject, changes: readonly Attribute[]): string | undefined {
  if (use === undefined) return undefined;
  const digit = (type: number, before: string): string => {
    const value = attributeIn(changes, type);
    return value === undefined ? before : String(value[0]);
  };
  return useTypes.map((type, index) => digit(type, use[index] ?? '0')).join('');
}

/** Returns the object with other usage flags. */
function withUse(object: VirtualObject, use: string | undefined): VirtualObject {
  return Object.assign(detached(object), { use });
}

/** Returns the key record that follows one by a change; undefined if there is none. */
export function recordAfter(
  group: Group,
  record: KeyRecord | null | undefined,
  renamed: VirtualObject,
  changes: readonly Attribute[],
  sealed?: KeyRecord['sealed'],
): KeyRecord | undefined {
  if (record === undefined || record === null) return undefined;
  const changed = new Set(changes.map(({ type }) => type));
  const template = [...record.template.filter(([type]) => !changed.has(type)), ...noteAttributes(changes)];
  return {
    ...record,
    note: noteObject(renamed),
    identity: shownIdentity(group, renamed),
    template,
    sealed: record.sealed ?? sealed,
    writer: group.coordinator.writer,
    time: group.nextTimestamp(),
  };
}

/** Builds the job that reads the attributes of a change from an object on one member. */
export function readingValues(object: VirtualObject, changes: readonly Attribute[]): MemberJob {
  return {
    function: 'C_GetAttributeValue',
    objects: [object],
    isReading: true,
    job: ([handle = new Uint8Array(8)]) => ({
      steps: [
        step(
          'C_GetAttributeValue',
          handle,
          changes.map(({ type }) => type),
        ),
      ],
    }),
  };
}

/**
 * Builds the job that repeats a change on one member; also returns the object if its identity changes. The job fails if
 * the object does not have its name any more: another process may just have given it another one.
 */
export function changingAttributesTo(
  group: Group,
  object: VirtualObject,
  changes: readonly Attribute[],
): { readonly memberJob: MemberJob; readonly renamed: VirtualObject | undefined } {
  const { renamed, after, needsAlias } = changedBy(object, changes);
  const twins = group.objects.aliasesOf(after.identity).filter(({ handle }) => handle !== object.handle);
  const aliases =
    needsAlias && !object.isRecorded
      ? [aliasOf(group, after), ...twins.flatMap(({ handle }) => knownAliasRecord(group, handle) ?? [])]
      : [];
  const record = recordAfter(group, object.record, after, changes);
  return {
    memberJob: changingAttributes(object, changes, { aliases, record }, templateOf(object.description)),
    renamed,
  };
}

/**
 * Builds the job that gives an object on one member its former values and name back, after a change that may have been
 * interrupted once the records of the new name were there. Undefined if the change writes no record.
 */
export function keepingName(
  group: Group,
  object: VirtualObject,
  { changes, former }: AttributeChange,
): MemberJob | undefined {
  const record = recordAfter(group, object.record, object, former);
  const needsAlias = changedBy(object, changes).needsAlias && !object.isRecorded;
  if (record === undefined && !needsAlias) return undefined;
  return changingAttributes(object, former, { aliases: needsAlias ? [aliasOf(group, object)] : [], record });
}

/**
 * Builds the job that changes attributes on one member, reads them back, and replaces the records of the object. With
 * `expected` the job fails if the member has no object of that template.
 */
export function changingAttributes(
  object: VirtualObject,
  changes: readonly Attribute[],
  { aliases, record }: Pick<ChangedRecords, 'aliases' | 'record'>,
  expected?: readonly Attribute[],
): MemberJob {
  const written: readonly AnyRecord[] = [...aliases, ...(record === undefined ? [] : [record])];
  return {
    function: 'C_SetAttributeValue',
    objects: [object],
    job: ([handle = new Uint8Array(8)]) => {
      const builder = new JobBuilder();
      if (expected !== undefined) {
        const at = builder.add(step('X_Find', expected, 1, []));
        builder.add(step('C_GetAttributeValue', { step: at }, [CKA.class]));
      }
      // Before the object gets its new identity its alias must exist, or other processes give it another handle.
      const replaced = written.map((each) => builder.add(step('X_Find', labelTemplate(each), 16, [])));
      for (const each of written) builder.addRecord(each);
      builder.add(step('C_SetAttributeValue', handle, changes));
      const types = changes.map(({ type }) => type);
      // If this read fails, the values cannot be verified, and the caller takes the change back.
      builder.add(optional(step('C_GetAttributeValue', handle, types)));
      for (const at of replaced) builder.add(optional(step('C_DestroyObject', { step: at })));
      return { steps: builder.steps };
    },
  };
}

/** Builds the job that restores the former values on one member and the records that belong to them. */
export function restoringAttributes(
  group: Group,
  object: VirtualObject,
  former: readonly Attribute[],
  { aliases, before, record }: ChangedRecords,
): MemberJob {
  const alias = aliases.find(({ handle }) => handle === object.handle);
  // Other processes may have read the records that are taken back: these must be the newer ones.
  const time = group.nextTimestamp();
  return {
    function: 'C_SetAttributeValue',
    objects: [object],
    job: ([handle = new Uint8Array(8)]) => {
      const builder = new JobBuilder();
      builder.add(step('C_SetAttributeValue', handle, former));
      if (alias !== undefined) {
        const at = builder.add(step('X_Find', labelTemplate(alias), 1, []));
        if (before !== undefined) builder.addRecord({ ...before, time });
        builder.add(optional(step('C_DestroyObject', { step: at })));
      }
      if (record !== undefined && object.record !== undefined && object.record !== null) {
        const at = builder.add(step('X_Find', keyRecordTemplate(object.handle), 1, []));
        builder.addRecord({ ...object.record, time });
        builder.add(optional(step('C_DestroyObject', { step: at })));
      }
      return { steps: builder.steps };
    },
  };
}
