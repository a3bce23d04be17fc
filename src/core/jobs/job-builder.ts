import type { Attribute } from '../../spec/attribute.js';
import type { ObjectRef } from '../../spec/calls.js';
import { CKA } from '../../spec/codes.js';
import { ck } from '../../spec/constants.js';
import { optional, type Step, step } from '../../spec/job.js';
import type { AnyRecord } from '../records/record.js';
import { recordTemplate } from '../records/record-template.js';

/** CKA_TOKEN of a token object. */
export const onToken: Attribute = { type: CKA.token, value: Uint8Array.of(1) };
/** CKA_TOKEN of a session object. */
export const inSession: Attribute = { type: CKA.token, value: Uint8Array.of(0) };

/** Returns the template with the attribute set or replaced. */
export function withAttribute(template: readonly Attribute[], attribute: Attribute): readonly Attribute[] {
  return [...template.filter(({ type }) => type !== attribute.type), attribute];
}

const lateTypes: ReadonlySet<number> = new Set(
  ['COPYABLE', 'MODIFIABLE', 'DESTROYABLE'].map((name) => ck(`CKA_${name}`)),
);

/**
 * Returns the attributes that only the token object gets (CKA_COPYABLE, CKA_MODIFIABLE or CKA_DESTROYABLE false): with
 * them the session object could not be copied or destroyed.
 */
export function lateIn(template: readonly Attribute[]): readonly Attribute[] {
  return template.filter(({ type, value }) => lateTypes.has(type) && value[0] === 0);
}

/** Returns the template without the attributes that `lateIn` gives. */
export function withoutLate(template: readonly Attribute[]): readonly Attribute[] {
  return template.filter(({ type, value }) => !lateTypes.has(type) || value[0] !== 0);
}

/** Collects the steps of a job. */
export class JobBuilder {
  readonly steps: Step[] = [];

  /** Appends steps and returns the index of the first. */
  add(...steps: readonly Step[]): number {
    const first = this.steps.length;
    this.steps.push(...steps);
    return first;
  }

  /**
   * Copies a session object to a token object and destroys the session object; returns the index of the copy's step.
   * SoftHSM writes a new token object in many writes, a copy in few: a kill in between rarely leaves half an object.
   */
  persist(object: ObjectRef, late: readonly Attribute[] = []): number {
    const kept = this.add(step('C_CopyObject', object, [onToken, ...late]));
    this.add(step('C_DestroyObject', object));
    return kept;
  }

  /** Adds the steps that write a record; returns the index of the step that makes its token object. */
  addRecord(record: AnyRecord, label?: Attribute): number {
    const template = recordTemplate(record, false);
    const labelled = label === undefined ? template : withAttribute(template, label);
    const made = this.add(step('C_CreateObject', labelled));
    return this.persist({ step: made });
  }

  /** Adds the steps that write a record if the token has room for it. */
  addRecordIfRoom(record: AnyRecord, label: Attribute): void {
    const first = this.steps.length;
    this.addRecord(record, label);
    this.steps.push(...this.steps.splice(first).map(optional));
  }
}
