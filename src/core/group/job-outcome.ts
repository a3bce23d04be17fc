import { CKR } from '../../spec/codes.js';
import { endOf, type JobReply } from '../../spec/job.js';
import { CKR_OK } from '../../spec/verdict.js';
import { Signal, type Task } from '../base/task.js';
import { race } from '../base/waiting.js';

/** Pending work: waits for jobs and hears when one of them is late. */
export class PendingWork extends Signal {
  /** True once a job that the work waits for was late. */
  late: boolean;
  /** Login that the work's handles belong to, if it keeps handles over several jobs. */
  epoch: number | undefined;

  constructor() {
    super();
    this.late = false;
    this.epoch = undefined;
  }

  markLate(): void {
    if (this.late) return;
    this.late = true;
    this.fire();
  }

  /** Waits for shared work, and is late when that work is. */
  *follow(shared: PendingWork): Task<void> {
    while (!shared.completed) {
      if (shared.late) this.markLate();
      yield* race([shared]);
    }
  }
}

/**
 * Outcome of a job. `lost`: the host ended before the reply; `begun` is true if a lane had begun the job, `charged` if
 * the job may have ended the host. `withdrawn`: no lane has begun the job.
 */
export type JobOutcome =
  | { readonly kind: 'reply'; readonly reply: JobReply }
  | { readonly kind: 'lost'; readonly begun: boolean; readonly charged: boolean; readonly reason: string }
  | { readonly kind: 'withdrawn' }
  /** Error while sending: the job is too large for the channel, or this program has a bug. */
  | { readonly kind: 'fault'; readonly error: unknown };

/** Failure of a job, or of a short sequence of jobs. */
export type Failure =
  | { readonly kind: 'code'; readonly function: string; readonly code: number }
  | Exclude<JobOutcome, { readonly kind: 'reply' }>
  /** Job that lacks something which a change of the members may bring. */
  | { readonly kind: 'deferred' };

/** Returns the failure of a job; undefined if all its steps succeeded. */
export function failureOf(outcome: JobOutcome): Failure | undefined {
  if (outcome.kind !== 'reply') return outcome;
  const { call, code } = endOf(outcome.reply);
  if (outcome.reply.status === 'unsendable') return { kind: 'code', function: call, code: CKR.hostMemory };
  return outcome.reply.status === 'done' && code === CKR_OK ? undefined : { kind: 'code', function: call, code };
}

/** Returns the reply of a job whose steps all succeeded, or the failure. */
export function replyOrFailure(outcome: JobOutcome): JobReply | Failure {
  if (outcome.kind !== 'reply') return outcome;
  return failureOf(outcome) ?? outcome.reply;
}

/** Tells a failure from the result of a task that succeeded. */
export function isFailure(value: unknown): value is Failure {
  return typeof value === 'object' && value !== null && 'kind' in value;
}
