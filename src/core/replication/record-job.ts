import { step } from '../../spec/job.js';
import { JobBuilder } from '../jobs/job-builder.js';
import type { MemberJob } from '../jobs/member-job.js';
import type { AnyRecord } from '../records/record.js';
import { labelTemplate } from '../records/record-template.js';

/** Builds the job that writes records on one member; `functionName` is the call that the job is accounted to. */
export function writingRecords(records: readonly AnyRecord[], functionName = 'C_CreateObject'): MemberJob {
  const builder = new JobBuilder();
  for (const record of records) builder.addRecord(record);
  return { function: functionName, objects: [], job: () => ({ steps: builder.steps }) };
}

/** Builds the job that finds a record by its label and destroys it. */
export function removingRecord(record: AnyRecord): MemberJob {
  const steps = [step('X_Find', labelTemplate(record), 1, []), step('C_DestroyObject', { step: 0 })];
  return { function: 'C_DestroyObject', objects: [], job: () => ({ steps }) };
}
