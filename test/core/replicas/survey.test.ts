import { expect, test } from '@jest/globals';
import type { Task } from '../../../src/core/base/task.js';
import type { Connection } from '../../../src/core/group/connection.js';
import { isFailure, type JobOutcome } from '../../../src/core/group/job-outcome.js';
import { recordTemplate } from '../../../src/core/records/record-template.js';
import { surveyKeyRecords } from '../../../src/core/replicas/survey.js';
import { CKA, CKR } from '../../../src/spec/codes.js';
import type { Job } from '../../../src/spec/job.js';
import { key as keyRecord } from '../../support/sample-records.js';

/** Token on which a key record is replaced between its listing and its reading. */
class ReplacingToken {
  #listings = 0;
  readonly epoch = 0;
  readonly #value = recordTemplate(keyRecord, true).find(({ type }) => type === CKA.value)?.value ?? new Uint8Array();

  renewAfter(): undefined {
    return undefined;
  }

  *run({ steps }: Job): Task<JobOutcome> {
    const [first] = steps;
    const isListing = first?.call === 'X_Find';
    if (isListing) this.#listings += 1;
    const current = Buffer.from([this.#listings === 1 ? 1 : 2]);
    const results = steps.map((each) => {
      if (isListing) return { call: each.call, code: 0, value: [{ handle: current, attributes: [] }] };
      // The record with the handle 1 is gone when it is read.
      const isGone = Buffer.from(each.arguments[0] as Uint8Array)[0] === 1;
      const attributes = [this.#value, Buffer.from('label')].map((value) => ({ presence: 'present', value }));
      return { call: each.call, code: isGone ? CKR.objectHandleInvalid : 0, value: isGone ? undefined : attributes };
    });
    return { kind: 'reply', reply: { id: 0, status: 'done', results } } as never;
  }
}

test('a key record that is replaced while the records are read is read again', () => {
  const task = surveyKeyRecords(new ReplacingToken() as unknown as Connection);
  const step = task.next();
  expect(step.done).toBe(true);
  const records = step.value as ReturnType<typeof surveyKeyRecords> extends Task<infer R> ? R : never;
  expect(isFailure(records) ? records : [...records.keys()]).toEqual([keyRecord.note.handle]);
});
