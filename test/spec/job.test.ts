import { describe, expect, test } from '@jest/globals';
import { fitsJob, type Job, type JobReply, optional, type StepResult, step } from '../../src/spec/job.js';

const find = step('X_Find', [], 2, [3]);
const sign = step('C_Sign', new Uint8Array(1));
const destroy = optional(step('C_DestroyObject', new Uint8Array(8)));
const job: Job = { steps: [find, destroy, sign] };

const found = (count: number, attributes = 1): StepResult => ({
  call: 'X_Find',
  code: 0,
  value: Array.from({ length: count }, () => ({
    handle: new Uint8Array(8),
    attributes: Array.from({ length: attributes }, () => ({ presence: 'present', value: new Uint8Array() })),
  })),
});
const destroyed = (code: number): StepResult => ({ call: 'C_DestroyObject', code, value: undefined, optional: true });
const signed = (code: number): StepResult => ({ call: 'C_Sign', code, value: new Uint8Array() });
const unopened: StepResult = { call: 'C_OpenSession', code: 0xb1, value: undefined };
const replyOf = (results: readonly StepResult[], status: JobReply['status'] = 'done'): JobReply => ({
  id: 1,
  status,
  results,
});

describe('[Rule 18] the reply to a job', () => {
  test.each<[string, readonly StepResult[], JobReply['status']]>([
    ['has all results', [found(2), destroyed(0), signed(0)], 'done'],
    ['ends with a failed step', [found(0), destroyed(0), signed(5)], 'done'],
    ['ends early', [{ ...found(0), code: 5 }], 'done'],
    ['has an optional step that failed', [found(1), destroyed(0x82), signed(0)], 'done'],
    ['says that no session could be opened', [unopened], 'done'],
    ['has no result, since no step ran', [], 'expired'],
    ['has no result, since the job is none', [], 'malformed'],
    ['has fewer results, since objects were left', [found(1), destroyed(0), signed(5)], 'unclean'],
  ])('%s', (_name, results, status) => {
    expect(fitsJob(replyOf(results, status), job)).toBe(true);
  });

  test.each<[string, readonly StepResult[]]>([
    ['more results than steps', [found(1), destroyed(0), signed(0), signed(0)]],
    ['fewer results without a failure', [found(1), destroyed(0)]],
    ['no results', []],
    ['another call', [found(1), destroyed(0), { ...signed(0), call: 'C_Digest' }]],
    ['another order', [destroyed(0), found(1), signed(0)]],
    ['a step after one that failed', [{ ...found(0), code: 5 }, destroyed(0), signed(0)]],
    ['a step that was not allowed to fail', [{ ...found(0), optional: true }, destroyed(0), signed(0)]],
    ['more objects than were asked for', [found(3), destroyed(0), signed(0)]],
    ['more attributes than were asked for', [found(1, 2), destroyed(0), signed(0)]],
    ['an opened session', [{ ...unopened, code: 0 }]],
    ['an unopened session after a step', [found(1), unopened]],
  ])('does not have %s', (_name, results) => {
    expect(fitsJob(replyOf(results), job)).toBe(false);
  });

  test('of a job without a session opens none', () => {
    expect(fitsJob(replyOf([unopened]), { ...job, sessionless: true })).toBe(false);
  });
});
