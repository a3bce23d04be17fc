import { codeName } from '../../spec/constants.js';
import type { JobReply } from '../../spec/job.js';
import { CKR_OK, type Verdict } from '../../spec/verdict.js';
import type { AttemptRecord } from '../base/event.js';
import type { Failure } from '../group/job-outcome.js';

/** End by a CKR code, with the verdict on the code. */
export interface CodeEnd {
  readonly kind: 'code';
  readonly verdict: Verdict;
  readonly function: string;
  readonly code: number;
  /** True if the code is about an operation that the job itself began on its session: a new session would not help. */
  readonly isOwn?: boolean;
}

/** End of an attempt: a reply, a code, a missing object, or a failure of the job on its way. */
export type AttemptEnd =
  | { readonly kind: 'ok'; readonly reply: JobReply }
  | CodeEnd
  | { readonly kind: 'absent' }
  | { readonly kind: 'misaligned' }
  | Exclude<Failure, { readonly kind: 'code' }>;

/** Returns the code that ended an attempt; undefined if no code did. */
export function codeOf(end: AttemptEnd | undefined): number | undefined {
  return end?.kind === 'code' ? end.code : undefined;
}

/** Returns the verdict on the code that ended an attempt; undefined if no code did. */
export function verdictOf(end: AttemptEnd | undefined): Verdict | undefined {
  return end?.kind === 'code' ? end.verdict : undefined;
}

/** Returns the evidence that errors and events show of an end; the function is empty if the call's own is meant. */
export function evidenceOf(end: AttemptEnd | undefined): Pick<AttemptRecord, 'function' | 'code' | 'outcome'> {
  const silent = { function: '', code: undefined };
  switch (end?.kind) {
    case 'code':
      return { function: end.function, code: end.code, outcome: codeName(end.code) };
    case 'ok':
      return { function: '', code: CKR_OK, outcome: 'ok' };
    case 'lost':
      return { ...silent, outcome: end.reason };
    case 'absent':
      return { ...silent, function: 'C_FindObjects', outcome: 'the member lacks the object' };
    case 'misaligned':
      return { ...silent, function: 'C_FindObjects', outcome: 'another key has the identity of the object' };
    case 'withdrawn':
      return { ...silent, outcome: 'not begun' };
    case 'deferred':
      return { ...silent, function: 'C_FindObjects', outcome: 'the key could not be proven' };
    case 'fault':
      return { ...silent, outcome: 'not sent' };
    default:
      return { ...silent, outcome: 'no answer' };
  }
}

/** Returns a record that names a function: its own, or else `functionName`. */
export function nameRecord(record: AttemptRecord, functionName: string): AttemptRecord {
  return record.function === '' ? { ...record, function: functionName } : record;
}
