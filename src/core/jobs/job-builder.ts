import type { Attribute } from '../../spec/attribute.js';
import type { ObjectRef } from '../../spec/calls.js';
import { CKA } from '../../spec/codes.js';
import { ck } from '../../spec/constants.js';
import { type Step, step } from '../../spec/job.js';
import { type AnyRecord, recordTemplate } from '../records/record.js';

export const onToken: Attribute = { type: CKA.token, value: Uint8Array.of(1) };
export const inSession: Attribute = { type: CKA.token, value: Uint8Array.of(0) };

/** The template with one attribute given, whatever it said of it before. */
export function withAttribute(template: readonly Attribute[], attribute: Attribute): readonly Attribute[] {
  return [...template.filter(({ type }) => type !== attribute.type), attribute];
}

const lateTypes: ReadonlySet<number> = new Set(
  ['COPYABLE', 'MODIFIABLE', 'DESTROYABLE'].map((name) => ck(`CKA_${name}`)),
);

/**
 * What an object gets only when it is kept: with it a session object could not be made into a token object, or not
 * be let go of again.
 */
export function lateIn(template: readonly Attribute[]): readonly Attribute[] {
  return template.filter(({ type, value }) => lateTypes.has(type) && value[0] === 0);
}

export function withoutLate(template: readonly Attribute[]): readonly Attribute[] {
  return template.filter(({ type, value }) => !lateTypes.has(type) || value[0] !== 0);
}

/** The steps of a job that is being put together; each `add` says where its step stands. */
export class JobBuilder {
  readonly steps: Step[] = [];

  add(...steps: readonly Step[]): number {
    const first = this.steps.length;
    this.steps.push(...steps);
    return first;
  }

  /**
   * Makes a token object out of a session object, in one write of the token, and lets the session object go. Tokens
   * write what they make anew piece by piece: who ends them in between finds half an object, a copy is nearly whole.
   */
  persist(object: ObjectRef, late: readonly Attribute[] = []): number {
    const kept = this.add(step('C_CopyObject', object, [onToken, ...late]));
    this.add(step('C_DestroyObject', object));
    return kept;
  }

  /** Writes a record; gives the step whose object it is. */
  addRecord(record: AnyRecord): number {
    const made = this.add(step('C_CreateObject', recordTemplate(record, false)));
    return this.persist({ step: made });
  }
}
