import { CKR } from '../../spec/codes.js';
import { endOf, type JobReply } from '../../spec/job.js';
import { CKR_OK } from '../../spec/verdict.js';
import { Signal, type Task } from '../base/task.js';
import { race } from '../base/waiting.js';

/** Somebody who waits for a job and wants to know when it takes longer than it should. */
export class PendingWork extends Signal {
  late: boolean;
  /** The login that the handles of its jobs are from, where it keeps handles over several jobs. */
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

  /** Waits for work that is shared with others, and is late when that is. */
  *follow(shared: PendingWork): Task<void> {
    while (!shared.completed) {
      if (shared.late) this.markLate();
      yield* race([shared]);
    }
  }
}

/**
 * How a job ended. `lost`: its host ended with it; `begun` says whether any of it was run, `charged` whether
 * it may have been what ended the host. `withdrawn`: nothing of it was run.
 */
export type JobOutcome =
  | { readonly kind: 'reply'; readonly reply: JobReply }
  | { readonly kind: 'lost'; readonly begun: boolean; readonly charged: boolean; readonly reason: string }
  | { readonly kind: 'withdrawn' }
  /** It could not even be sent: too large for the channel, or a fault of ours. */
  | { readonly kind: 'fault'; readonly error: unknown };

/** Why a job, or a short sequence of jobs, has no result. */
export type Failure =
  | { readonly kind: 'code'; readonly function: string; readonly code: number }
  | Exclude<JobOutcome, { readonly kind: 'reply' }>
  /** What the job needs is not to be had just now; a change of the members may bring it. */
  | { readonly kind: 'deferred' };

/** What kept a job from its result; undefined when all its steps succeeded. */
export function failureOf(outcome: JobOutcome): Failure | undefined {
  if (outcome.kind !== 'reply') return outcome;
  const { call, code } = endOf(outcome.reply);
  if (outcome.reply.status === 'unsendable') return { kind: 'code', function: call, code: CKR.hostMemory };
  return outcome.reply.status === 'done' && code === CKR_OK ? undefined : { kind: 'code', function: call, code };
}

/** Tells a failure from what a task gives when there was none. */
export function isFailure(value: unknown): value is Failure {
  return typeof value === 'object' && value !== null && 'kind' in value;
}
