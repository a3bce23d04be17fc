import type { Attribute } from '../../spec/attribute.js';
import { CKA } from '../../spec/codes.js';
import { optional, step } from '../../spec/job.js';
import { attributeIn } from '../../spec/rules.js';
import { sameBytes } from '../base/bytes.js';
import type { Group } from '../group/group.js';
import { JobBuilder } from '../jobs/job-builder.js';
import type { MemberJob } from '../jobs/member-job.js';
import { type Description, describe, describedTypes, identityOf } from '../objects/identity.js';
import type { KeyRecord } from '../objects/key-note.js';
import { noteAttributes, noteObject } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import { type AliasRecord, type AnyRecord, keyRecordTemplate, labelTemplate } from '../records/record.js';
import { useTypes } from '../replicas/copies.js';
import { aliasOf } from './naming.js';

/** What is written beside the new values. */
export interface ChangedRecords {
  /** What leads from the new name to the handle; and to those of others that have that name already. */
  readonly names: readonly AliasRecord[];
  /** What led to the handle before. */
  readonly before: AliasRecord | undefined;
  readonly record: KeyRecord | undefined;
}

export function describeAll(described: readonly (Uint8Array | undefined)[]): Description {
  return describe(
    described.map((value) =>
      value === undefined
        ? { presence: 'invalid', value: Buffer.alloc(0) }
        : { presence: 'present', value: Buffer.from(value) },
    ),
  );
}

/** The object under the identity it gets; undefined when that stays as it is. */
export function renamedBy(object: VirtualObject, changes: readonly Attribute[]): VirtualObject | undefined {
  if (attributeIn(changes, CKA.label) === undefined && attributeIn(changes, CKA.id) === undefined) return undefined;
  const described = describedTypes.map((type, index) => attributeIn(changes, type) ?? object.described[index]);
  const description = describeAll(described);
  const identity = identityOf(description, object.valueDigest);
  if (sameBytes(identity, object.identity)) return undefined;
  const renamed = Object.assign(Object.create(Object.getPrototypeOf(object)) as VirtualObject, object);
  return Object.assign(renamed, { identity, description, described });
}

/** What a copy may be used for after a change; undefined where nothing hangs on that. */
export function useAfter({ use }: VirtualObject, changes: readonly Attribute[]): string | undefined {
  if (use === undefined) return undefined;
  const digit = (type: number, before: string): string => {
    const value = attributeIn(changes, type);
    return value === undefined ? before : String(value[0]);
  };
  return useTypes.map((type, index) => digit(type, use[index] ?? '0')).join('');
}

export function withUse(object: VirtualObject, use: string | undefined): VirtualObject {
  return Object.assign(Object.create(Object.getPrototypeOf(object)) as VirtualObject, object, { use });
}

export function recordAfter(
  group: Group,
  object: VirtualObject,
  renamed: VirtualObject,
  changes: readonly Attribute[],
  sealed?: KeyRecord['sealed'],
): KeyRecord | undefined {
  const { record } = object;
  if (record === undefined || record === null) return undefined;
  const changed = new Set(changes.map(({ type }) => type));
  const template = [...record.template.filter(([type]) => !changed.has(type)), ...noteAttributes(changes)];
  return {
    ...record,
    note: noteObject(renamed),
    template,
    sealed: record.sealed ?? sealed,
    writer: group.port.writer,
    time: group.nextTimestamp(),
  };
}

/** The attributes of an object on one member. */
export function hasValues(object: VirtualObject, changes: readonly Attribute[]): MemberJob {
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

/** The change of an object on one member, for a call that others have begun; and the object under its new name. */
export function changingAttributesTo(
  group: Group,
  object: VirtualObject,
  changes: readonly Attribute[],
): { readonly memberJob: MemberJob; readonly renamed: VirtualObject | undefined } {
  const renamed = renamedBy(object, changes);
  const use = useAfter(object, changes);
  const isOther = renamed !== undefined || use !== object.use;
  const now = withUse(renamed ?? object, use);
  const twins = group.objects.aliasesOf(now.identity).filter(({ handle }) => handle !== object.handle);
  const names = isOther
    ? [aliasOf(group, now), ...twins.flatMap(({ handle }) => group.ledger.aliasOf(handle) ?? [])]
    : [];
  const record = recordAfter(group, object, renamed ?? object, changes);
  return { memberJob: changingAttributes(object, changes, { names, before: undefined, record }), renamed };
}

export function changingAttributes(
  object: VirtualObject,
  changes: readonly Attribute[],
  { names, record }: ChangedRecords,
): MemberJob {
  const written: readonly AnyRecord[] = [...names, ...(record === undefined ? [] : [record])];
  return {
    function: 'C_SetAttributeValue',
    objects: [object],
    job: ([handle = new Uint8Array(8)]) => {
      const builder = new JobBuilder();
      // What leads from the new name to the handle is there before anybody meets the new name.
      const olds = written.map((each) => builder.add(step('X_Find', labelTemplate(each), 16, [])));
      for (const each of written) builder.addRecord(each);
      builder.add(step('C_SetAttributeValue', handle, changes));
      const types = changes.map(({ type }) => type);
      // It may fail without harm: then nobody knows what has come of it, and it is taken back.
      builder.add(optional(step('C_GetAttributeValue', handle, types)));
      for (const at of olds) builder.add(optional(step('C_DestroyObject', { step: at })));
      return { steps: builder.steps };
    },
  };
}

/** Gives back what was, and takes away the records that were written for what was to be. */
export function restoringAttributes(
  object: VirtualObject,
  former: readonly Attribute[],
  { names, before, record }: ChangedRecords,
): MemberJob {
  const alias = names.find(({ handle }) => handle === object.handle);
  return {
    function: 'C_SetAttributeValue',
    objects: [object],
    job: ([handle = new Uint8Array(8)]) => {
      const builder = new JobBuilder();
      builder.add(step('C_SetAttributeValue', handle, former));
      if (alias !== undefined) {
        const at = builder.add(step('X_Find', labelTemplate(alias), 1, []));
        if (before !== undefined) builder.addRecord(before);
        builder.add({ ...step('C_DestroyObject', { step: at }), optional: true });
      }
      if (record !== undefined && object.record !== undefined && object.record !== null) {
        const at = builder.add(step('X_Find', keyRecordTemplate(object.handle), 1, []));
        builder.addRecord(object.record);
        builder.add({ ...step('C_DestroyObject', { step: at }), optional: true });
      }
      return { steps: builder.steps };
    },
  };
}
