import type { Job } from '../../spec/job.js';
import { FOREVER, Signal } from '../base/task.js';
import type { JobOutcome, PendingWork } from './job-outcome.js';

/** Ticket: a job on its way through a connection; completed with the job's outcome. */
export class Ticket extends Signal {
  /** Id of the job at the host; 0 until the job is sent. */
  id: number;
  readonly job: Job;
  /** Kind of operation, whose latency counts. */
  readonly kind: string;
  /** Deadline of the job at the host (ms of the port's clock). */
  readonly deadline: number;
  /** Work that waits for the job and hears when the job is late. */
  readonly work: PendingWork | undefined;
  /** Login that the job's handles belong to. */
  readonly epoch: number;
  outcome: JobOutcome | undefined;
  /** Time at which the job was sent (ms of the port's clock); 0 before. */
  sentAt: number;
  /** Time at which the job is late (ms of the port's clock). */
  lateAt: number;
  late: boolean;

  constructor(job: Job, kind: string, deadline: number, work: PendingWork | undefined, epoch: number) {
    super();
    this.id = 0;
    this.job = job;
    this.kind = kind;
    this.deadline = deadline;
    this.work = work;
    this.epoch = epoch;
    this.outcome = undefined;
    this.sentAt = 0;
    this.lateAt = FOREVER;
    this.late = false;
  }

  end(outcome: JobOutcome): void {
    this.outcome = outcome;
    this.complete();
  }
}
