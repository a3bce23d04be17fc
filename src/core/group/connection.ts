import { endOf, fitsJob, type Job, type JobReply } from '../../spec/job.js';
import { CKR_OK } from '../../spec/verdict.js';
import { FreeList } from '../base/free-list.js';
import type { HostEnd, HostLink, Port } from '../base/port.js';
import { type Alarm, FOREVER, Signal, type Task } from '../base/task.js';
import { race, waitUntil } from '../base/waiting.js';
import type { FoundReplica, Survey } from '../objects/found-object.js';
import type { VirtualObject } from '../objects/object.js';
import type { RecordsFound } from '../records/ledger.js';
import { type HangLimits, isHanging, isOverLimit, isWriting, limitOf } from './hang-limits.js';
import type { HeldStream } from './held-stream.js';
import type { Failure, JobOutcome, PendingWork } from './job-outcome.js';
import type { Timing } from './latency.js';
import type { Renewal, Replica, Resolution } from './replica-state.js';
import { Ticket } from './ticket.js';

/** Interval between looks at a running write before its host is killed (ms). */
const WRITE_POLL = 20;
/** Time for a killed host to end before the connection gives it up (ms). */
const REAP_TIMEOUT = 2000;
/** Time for a host to leave before it is killed (ms): it may be stopped, or the machine very busy. */
const LEAVE_TIMEOUT = 100;
/** Bound on the number of jobs at a host. The id of a job is its number times this, plus its index in the free list. */
const MAX_OUTSTANDING = 1024;

/**
 * Connection: one life of a member's host. At most `window` jobs are at the host; the others are queued here and can be
 * withdrawn. Real handles live no longer than the connection (Rule 13).
 */
export class Connection {
  /** Replicas of virtual objects that were looked for here; cleared when the login is renewed. */
  readonly replicas: Map<VirtualObject, Replica> = new Map<VirtualObject, Replica>();
  /** Objects whose real handle was met here with the name that they have now, by that handle in hexadecimal. */
  readonly named: Map<string, VirtualObject> = new Map<string, VirtualObject>();
  /** Session objects of applications that were made here, by real handle in hexadecimal. */
  readonly sessionObjects: Map<string, VirtualObject> = new Map<string, VirtualObject>();
  /** Multi-part operations that hold a session here, in the order of their last use. */
  readonly streams: Set<HeldStream> = new Set<HeldStream>();
  /** Searches for replicas that are running. */
  readonly resolutions: Map<VirtualObject, Resolution> = new Map<VirtualObject, Resolution>();
  /** Completes when the host has ended. */
  readonly ended: Signal = new Signal();
  /** Fires when a job may have become late. */
  readonly alarm: Alarm;
  /** Starts to renew session and login if a failure says that they are lost. Set when the member joins. */
  renewAfter: (failure: Failure) => Renewal | undefined = () => undefined;
  readonly #outstanding = new FreeList<Ticket>();
  #queue: Ticket[] = [];
  /** Number of jobs that were sent. */
  #sent = 0;
  #link: HostLink | undefined;
  /** Maximum number of jobs at the host: 2 × lanes. */
  window: number = 4;
  /** Slot ID of the token (CK_SLOT_ID). */
  slot: number = 0;
  lanes: number = 1;
  /** Maximum number of sessions that streams hold, beside the sessions of the lanes. */
  maxHeldSessions: number = 1;
  /** Time of the last reply, or of the connection's start (ms of the port's clock). */
  lastReplyAt: number;
  /** Number of renewed logins; real handles are valid in one epoch only. */
  epoch: number = 0;
  /** Renewal of the login that is running. */
  renewing: Renewal | undefined;
  /** Time of the last renewal's end (ms of the port's clock). */
  renewedAt: number = Number.NEGATIVE_INFINITY;
  /** Groupwide records on the token when the member joined. */
  records: RecordsFound | undefined;
  /** Virtual handles whose alias records were written here since. */
  readonly aliased: Set<number> = new Set<number>();
  /** Survey of the token while a member catches up; `isWhole` if an object that it lacks is absent from the token. */
  survey: { readonly found: Survey; readonly isWhole: boolean } | undefined;
  /** True once the lanes have sessions on the token, perhaps still without a login. */
  isAttached: boolean = false;
  /** True once the login is done, or known to be none: before, the token does not show its private objects. */
  hasLogin: boolean = false;
  /** True from the decision to end the host on. */
  isGivenUp: boolean = false;
  /** End of the host; undefined while it lives. */
  end: HostEnd | undefined;
  /** Time at which the host was told to leave (ms of the port's clock), and the limits that then counted. */
  #left: { readonly at: number; readonly limits: HangLimits } | undefined;

  constructor(
    readonly port: Port,
    readonly timing: Timing,
  ) {
    this.alarm = port.alarm();
    this.lastReplyAt = port.now();
  }

  attachHost(link: HostLink): void {
    this.#link = link;
  }

  /** Process id of the host; undefined after its end. */
  get pid(): number | undefined {
    return this.end === undefined ? this.#link?.pid : undefined;
  }

  /** Names of environment variables that the host did not get (see `HostLink`). */
  get withheld(): readonly string[] {
    return this.#link?.withheld ?? [];
  }

  /** Number of jobs at the host and in the queue. */
  get load(): number {
    return this.#outstanding.size + this.#queue.length;
  }

  /** Returns the objects of an identity by the survey; undefined if the token has to be searched. */
  surveyed(identity: Uint8Array): readonly FoundReplica[] | undefined {
    if (this.survey === undefined || this.survey.found.epoch !== this.epoch) return undefined;
    const found = this.survey.found.of(identity);
    return found.length > 0 || this.survey.isWhole ? found : undefined;
  }

  forgetSurvey(): void {
    this.survey = undefined;
  }

  get isFull(): boolean {
    return this.#outstanding.size >= this.window;
  }

  /** Sends a job, or queues it while the host is full. Withdraws it at once if the host or the login has ended. */
  submit(job: Job, kind: string, deadline: number, work?: PendingWork): Ticket {
    const epoch = work?.epoch ?? this.epoch;
    const ticket = new Ticket(job, kind, deadline, work, epoch);
    if (this.end !== undefined || epoch !== this.epoch) ticket.end({ kind: 'withdrawn' });
    else if (this.isFull || this.#queue.length > 0 || !this.#transmit(ticket)) this.#queue.push(ticket);
    return ticket;
  }

  /**
   * Submits a job and waits for its outcome. Withdraws it if the task is ended. Before the login only jobs without a
   * session run: what is not seen then may be there.
   */
  *run(job: Job, kind: string, deadline: number, work?: PendingWork): Task<JobOutcome> {
    if (!this.hasLogin && job.sessionless !== true) return { kind: 'withdrawn' };
    const ticket = this.submit(job, kind, deadline, work);
    try {
      yield* race([ticket]);
      return ticket.outcome ?? { kind: 'withdrawn' };
    } finally {
      if (!ticket.completed) this.abandon(ticket);
    }
  }

  /** Withdraws a queued job. A job at the host stays: it holds its lane until the reply, whose latency counts. */
  abandon(ticket: Ticket): void {
    this.#queue = this.#queue.filter((queued) => queued !== ticket);
  }

  /** Takes a reply of the host. */
  replied(reply: JobReply): boolean {
    const index = reply.id % MAX_OUTSTANDING;
    const ticket = this.#outstanding.at(index);
    if (ticket?.id !== reply.id || !fitsJob(reply, ticket.job)) return false;
    this.#outstanding.remove(index);
    const now = this.port.now();
    this.lastReplyAt = now;
    if (reply.status === 'done' && endOf(reply).code === CKR_OK)
      this.timing.took(ticket.kind, now - ticket.sentAt, ticket.late);
    ticket.end(reply.status === 'expired' ? { kind: 'withdrawn' } : { kind: 'reply', reply });
    this.#transmitQueued();
    return true;
  }

  /** Takes the end of the host: every job that is not done is lost or withdrawn. */
  hostEnded(end: HostEnd): void {
    if (this.end !== undefined) return;
    this.end = end;
    this.alarm.stop();
    const begun = new Map(this.#link?.begun().map((entry) => [entry.job, entry]));
    for (const ticket of this.#outstanding.all()) {
      const entry = begun.get(ticket.id);
      const charged =
        entry !== undefined && (this.#left === undefined || isOverLimit(entry, this.#left.at, this.#left.limits));
      ticket.end({ kind: 'lost', begun: entry !== undefined, charged, reason: end.reason });
    }
    this.#outstanding.clear();
    this.withdrawQueued();
    this.#link?.close();
    this.ended.complete();
  }

  /** Lists the writes that are out at the host. */
  writesOut(): readonly Ticket[] {
    return [...this.#outstanding.all()].filter(({ job }) => job.longWrite === true);
  }

  /** Withdraws all queued jobs, so that they can go elsewhere. */
  withdrawQueued(): void {
    const queue = this.#queue;
    this.#queue = [];
    for (const ticket of queue) ticket.end({ kind: 'withdrawn' });
  }

  /** Withdraws all queued jobs and marks the jobs at the host as late, so that their callers try elsewhere. */
  moveAll(): void {
    this.withdrawQueued();
    for (const ticket of this.#outstanding.all()) this.#markLate(ticket);
  }

  /** Marks the jobs that are late by now. Returns their number, and whether one was sent after the last reply. */
  noticeLate(now: number): { readonly late: number; readonly silent: boolean } {
    let [late, silent, next] = [0, false, FOREVER];
    for (const ticket of this.#outstanding.all()) {
      if (ticket.late || ticket.lateAt <= now) {
        if (!ticket.late) this.#markLate(ticket);
        late += 1;
        if (ticket.sentAt >= this.lastReplyAt) silent = true;
      } else {
        next = Math.min(next, ticket.lateAt);
      }
    }
    if (next !== FOREVER) this.alarm.ringAt(next);
    return { late, silent };
  }

  /** Returns the time at which the first job at the host counts as hung (ms of the port's clock), or FOREVER. */
  hungAt(limits: HangLimits): number {
    const hungAt = ({ sentAt, job }: Ticket): number => sentAt + limitOf(job.longWrite === true, limits);
    return Math.min(FOREVER, ...[...this.#outstanding.all()].map(hungAt));
  }

  /** Returns true if a job hangs at the host (see `isHanging`). */
  isHung(now: number, limits: HangLimits): boolean {
    const link = this.#link;
    if (link === undefined || this.hungAt(limits) > now) return false;
    return isHanging(link.begun(), this.lastReplyAt, now, limits);
  }

  /** Waits until the host writes no token object, or only writes that hang (Rule 9). */
  *awaitWrites(limits: HangLimits): Task<void> {
    while (this.end === undefined && isWriting(this.#link?.begun() ?? [], this.port.now(), limits))
      yield* race([this.ended], this.port.now() + WRITE_POLL);
  }

  /** Tells the host to leave. Jobs that are within their limit are not charged with the host's end. */
  leave(limits: HangLimits): void {
    this.#left = { at: this.port.now(), limits };
    this.#link?.leave();
  }

  /** Ends the host and waits until it is gone (Rule 9). First tells it to leave, so that it begins no write any more. */
  *giveUp(limits: HangLimits): Task<void> {
    if (this.end !== undefined) return;
    this.isGivenUp = true;
    yield* this.awaitWrites(limits);
    this.leave(limits);
    yield* this.#awaitEnd(LEAVE_TIMEOUT);
    yield* this.awaitWrites(limits);
    if (this.end !== undefined) return;
    this.#link?.kill();
    yield* this.#awaitEnd(REAP_TIMEOUT);
    this.hostEnded({ reason: 'the host did not end after it was killed' });
  }

  *#awaitEnd(within: number): Task<void> {
    yield* waitUntil(this.port, [this.ended], () => this.end !== undefined, this.port.now() + within);
  }

  // Sends a job, or ends its ticket if it cannot be encoded; returns false if the channel is full.
  #transmit(ticket: Ticket): boolean {
    const index = this.#outstanding.add(ticket);
    ticket.id = (this.#sent + 1) * MAX_OUTSTANDING + index;
    try {
      if (this.#link?.send(ticket.id, this.timing.beginBy(ticket), ticket.job, ticket.epoch) !== true) {
        this.#outstanding.remove(index);
        return false;
      }
    } catch (error) {
      this.#outstanding.remove(index);
      ticket.end({ kind: 'fault', error });
      return true;
    }
    this.#sent += 1;
    ticket.sentAt = this.port.now();
    ticket.lateAt = ticket.job.slow === true ? FOREVER : ticket.sentAt + this.timing.timeoutOf(ticket);
    if (ticket.lateAt !== FOREVER) this.alarm.ringAt(ticket.lateAt);
    return true;
  }

  #transmitQueued(): void {
    for (let [next] = this.#queue; next !== undefined && !this.isFull; [next] = this.#queue) {
      if (!this.#transmit(next)) return;
      this.#queue.shift();
    }
  }

  #markLate(ticket: Ticket): void {
    ticket.late = true;
    ticket.work?.markLate();
  }
}
