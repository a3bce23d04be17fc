import { endOf, type Job, type JobReply } from '../../spec/job.js';
import { CKR_OK } from '../../spec/verdict.js';
import { FreeList } from '../base/free-list.js';
import type { BegunJob, HostEnd, HostLink, Port } from '../base/port.js';
import { type Alarm, FOREVER, Signal, type Task } from '../base/task.js';
import { race, waitUntil } from '../base/waiting.js';
import type { FoundReplica, Survey } from '../objects/found-object.js';
import type { VirtualObject } from '../objects/object.js';
import type { RecordsFound } from '../records/ledger.js';
import { type Failure, isFailure, type JobOutcome, type PendingWork } from './job-outcome.js';
import type { Renewal, Replica, Resolution } from './replica-state.js';

/** A write that is under way is looked at so often before its host is killed (ms). */
const WRITE_LOOK = 20;
/** A host that was killed is waited for so long before it counts as lost (ms). */
const REAP_WITHIN = 2000;
/** One that is told to leave is killed after so long (ms): it is stopped, or the machine is very busy. */
const LEAVE_WITHIN = 100;
/** More than ever are out at a host: a job's id is its number times this, and its place. */
const MOST_OUT = 1024;

/** A job on its way through a connection. */
export class Ticket extends Signal {
  /** 0 until it is sent. */
  id: number;
  readonly job: Job;
  readonly kind: string;
  readonly deadline: number;
  readonly effort: PendingWork | undefined;
  readonly epoch: number;
  outcome: JobOutcome | undefined;
  sentAt: number;
  lateAt: number;
  late: boolean;

  constructor(job: Job, kind: string, deadline: number, work: PendingWork | undefined, epoch: number) {
    super();
    this.id = 0;
    this.job = job;
    this.kind = kind;
    this.deadline = deadline;
    this.effort = work;
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

/** A multi-part operation as its connection sees it: it holds a session there. */
export interface HeldStream {
  /** Whether its session can be given up for another operation's sake. */
  readonly mayMove: boolean;
  /** Gives the session back. */
  leave(): void;
}

/** What a connection asks of its member: how long an operation may take, and where to note how long it took. */
export interface Timing {
  timeoutOf(kind: string): number;
  /** The same for jobs that write token objects or make keys. */
  longWriteTimeoutOf(kind: string): number;
  took(kind: string, duration: number, unexpected: boolean): void;
}

/** After how long a job counts as hung, ms. */
export interface HangLimits {
  readonly hangAfter: number;
  readonly writeHangAfter: number;
}

function limitOf({ longWrite }: BegunJob, { hangAfter, writeHangAfter }: HangLimits): number {
  return longWrite ? writeHangAfter : hangAfter;
}

/**
 * One life of a member's host. At most `window` jobs are out at the host, the rest waits here, where it can
 * still be withdrawn. Real handles live no longer than this (Rule 13).
 */
export class Connection {
  readonly replicas: Map<VirtualObject, Replica> = new Map<VirtualObject, Replica>();
  /** The session objects of the application that were made here, by their real handles in hexadecimal. */
  readonly sessionObjects: Map<string, VirtualObject> = new Map<string, VirtualObject>();
  /** Multi-part operations that hold a session here, the one that was used last at the end. */
  readonly streams: Set<HeldStream> = new Set<HeldStream>();
  readonly resolutions: Map<VirtualObject, Resolution> = new Map<VirtualObject, Resolution>();
  readonly ended: Signal = new Signal();
  /** Rings when a job may have become late. */
  readonly alarm: Alarm;
  /** Makes session and login new, when a failure says that they are lost. */
  renewAfter: (failure: Failure) => Renewal | undefined = () => undefined;
  readonly #outstanding = new FreeList<Ticket>();
  #queue: Ticket[] = [];
  #sent = 0;
  #link: HostLink | undefined;
  /** Jobs that may be out at the host at once: 2 × lanes. */
  window: number = 4;
  slot: number = 0;
  lanes: number = 1;
  /** Sessions that streams may hold beside those of the lanes. */
  maxHeldSessions: number = 1;
  lastReplyAt: number;
  /** Counts the logins: handles are good for one of them only. */
  epoch: number = 0;
  /** The login being renewed, and when that last ended (ms of the port's clock). */
  renewing: Renewal | undefined;
  renewedAt: number = Number.NEGATIVE_INFINITY;
  /** The group's records as they were when it joined. */
  records: RecordsFound | undefined;
  /** Handles that alias records were written of here since. */
  readonly aliased: Set<number> = new Set<number>();
  /** What is on the token, while a member catches up; `isWhole` where what is not in it is not there either. */
  survey: { readonly found: Survey; readonly isWhole: boolean } | undefined;
  /** Its lanes can be used, although nobody may be logged in yet. */
  isAttached: boolean = false;
  end: HostEnd | undefined;
  #killedAt: { readonly time: number; readonly limits: HangLimits } | undefined;

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

  get pid(): number | undefined {
    return this.end === undefined ? this.#link?.pid : undefined;
  }

  get load(): number {
    return this.#outstanding.size + this.#queue.length;
  }

  /** The objects of an identity, where a survey tells; undefined where it has to be looked for. */
  surveyed(identity: Uint8Array): readonly FoundReplica[] | undefined {
    if (this.survey === undefined || this.survey.found.epoch !== this.epoch) return undefined;
    const found = this.survey.found.of(identity);
    return found.length > 0 || this.survey.isWhole ? found : undefined;
  }

  /** Whether the token has the alias record of a handle, as far as it was looked. */
  hasAlias(handle: number): boolean {
    if (this.aliased.has(handle)) return true;
    return this.records?.aliases.some(({ record }) => record.handle === handle) ?? false;
  }

  forgetSurvey(): void {
    this.survey = undefined;
  }

  get isFull(): boolean {
    return this.#outstanding.size >= this.window;
  }

  submit(job: Job, kind: string, deadline: number, work?: PendingWork): Ticket {
    const epoch = work?.epoch ?? this.epoch;
    const ticket = new Ticket(job, kind, deadline, work, epoch);
    if (this.end !== undefined || epoch !== this.epoch) ticket.end({ kind: 'withdrawn' });
    else if (this.isFull || this.#queue.length > 0 || !this.#transmit(ticket)) this.#queue.push(ticket);
    return ticket;
  }

  /** Submits a job and waits for it; withdraws it when the task is ended meanwhile. */
  *run(job: Job, kind: string, deadline: number, work?: PendingWork): Task<JobOutcome> {
    const ticket = this.submit(job, kind, deadline, work);
    try {
      yield* race([ticket]);
      return ticket.outcome ?? { kind: 'withdrawn' };
    } finally {
      if (!ticket.completed) this.abandon(ticket);
    }
  }

  /** Withdraws a job. One that is out stays out: it occupies its lane until it is done, and its reply tells how the member is. */
  abandon(ticket: Ticket): void {
    this.#queue = this.#queue.filter((queued) => queued !== ticket);
  }

  /** Reads something in several jobs; once more, from the start, where session and login are lost meanwhile. */
  *retryAfterRenewal<T>(read: () => Task<T | Failure>, deadline: number = FOREVER): Task<T | Failure> {
    const { epoch } = this;
    const first = yield* read();
    if (!isFailure(first)) return first;
    const hasChanged = first.kind === 'withdrawn' && this.epoch !== epoch && this.end === undefined;
    const renewal = hasChanged ? this.renewing : this.renewAfter(first);
    if (renewal === undefined && !hasChanged) return first;
    if (renewal?.completed === false) yield* race([renewal], deadline);
    return renewal?.completed === false || renewal?.failure !== undefined ? first : yield* read();
  }

  replied(reply: JobReply): void {
    const place = reply.id % MOST_OUT;
    const ticket = this.#outstanding.at(place);
    if (ticket?.id !== reply.id) return;
    this.#outstanding.remove(place);
    const now = this.port.now();
    this.lastReplyAt = now;
    if (reply.status === 'done' && endOf(reply).code === CKR_OK)
      this.timing.took(ticket.kind, now - ticket.sentAt, ticket.late);
    ticket.end(reply.status === 'expired' ? { kind: 'withdrawn' } : { kind: 'reply', reply });
    this.#transmitQueued();
  }

  hostEnded(end: HostEnd): void {
    if (this.end !== undefined) return;
    this.end = end;
    this.alarm.stop();
    const begun = new Map(this.#link?.begun().map((entry) => [entry.job, entry]));
    for (const ticket of this.#outstanding.all()) {
      const entry = begun.get(ticket.id);
      const charged =
        entry !== undefined &&
        (this.#killedAt === undefined || this.#killedAt.time - entry.since >= limitOf(entry, this.#killedAt.limits));
      ticket.end({ kind: 'lost', begun: entry !== undefined, charged, reason: end.reason });
    }
    this.#outstanding.clear();
    this.withdrawQueued();
    this.#link?.close();
    this.ended.complete();
  }

  /** Gives back the jobs that have not been sent: they are free to go elsewhere. */
  withdrawQueued(): void {
    const queue = this.#queue;
    this.#queue = [];
    for (const ticket of queue) ticket.end({ kind: 'withdrawn' });
  }

  /** Marks every job that waits here as late, so that all of them start a second attempt. */
  moveAll(): void {
    this.withdrawQueued();
    for (const ticket of this.#outstanding.all()) this.#markLate(ticket);
  }

  /** Marks what is late by now; true if there is anything, and the member has not said a word since. */
  noticeLate(now: number): { readonly late: number; readonly silent: boolean } {
    let late = 0;
    let silent = false;
    let next = FOREVER;
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

  /** The time at which the longest running job counts as hung; FOREVER when nothing is out. */
  hungAt(limits: HangLimits): number {
    let first = FOREVER;
    for (const { sentAt, job } of this.#outstanding.all()) {
      first = Math.min(first, sentAt + (job.longWrite === true ? limits.writeHangAfter : limits.hangAfter));
    }
    return first;
  }

  /**
   * Whether a job hangs: begun for longer than its limit, or sent that long ago to a host that says nothing. While
   * a token object is being written only that write itself can hang (Rule 9): a host that is killed inside of it
   * leaves half of it behind.
   */
  isHung(now: number, { hangAfter, writeHangAfter }: HangLimits): boolean {
    const link = this.#link;
    if (link === undefined || this.hungAt({ hangAfter, writeHangAfter }) > now) return false;
    const begun = link.begun();
    const longWrites = begun.filter((entry) => entry.longWrite);
    if (longWrites.some(({ since }) => now - since >= writeHangAfter)) return true;
    if (longWrites.length > 0) return false;
    if (begun.some(({ since }) => now - since >= hangAfter)) return true;
    return now - this.lastReplyAt >= hangAfter;
  }

  /** Waits until no token object is being written any more, or that write itself hangs (Rule 9). */
  *awaitWrites(limits: HangLimits): Task<void> {
    for (;;) {
      const now = this.port.now();
      const writes = (this.#link?.begun() ?? []).filter(
        ({ longWrite, since }) => longWrite && now - since < limits.writeHangAfter,
      );
      if (this.end !== undefined || writes.length === 0) return;
      yield* race([this.ended], now + WRITE_LOOK);
    }
  }

  /** Lets the host go; jobs that had run for less than `hangAfter` are not charged with its end. */
  leave(limits: HangLimits): void {
    this.#killedAt = { time: this.port.now(), limits };
    this.#link?.leave();
  }

  /**
   * Ends the host and waits until it holds nothing any more: its successor may start then (Rule 9). It is told to
   * leave first: only the host itself knows that no write begins in the moment in which it is killed.
   */
  *giveUp(limits: HangLimits): Task<void> {
    if (this.end !== undefined) return;
    yield* this.awaitWrites(limits);
    this.leave(limits);
    yield* this.#awaitEnd(LEAVE_WITHIN);
    yield* this.awaitWrites(limits);
    if (this.end !== undefined) return;
    this.#link?.kill();
    yield* this.#awaitEnd(REAP_WITHIN);
    this.hostEnded({ reason: 'the host did not end' });
  }

  *#awaitEnd(within: number): Task<void> {
    const until = this.port.now() + within;
    yield* waitUntil(this.port, [this.ended], () => this.end !== undefined, until);
  }

  #transmit(ticket: Ticket): boolean {
    const place = this.#outstanding.add(ticket);
    ticket.id = (this.#sent + 1) * MOST_OUT + place;
    try {
      if (this.#link?.send(ticket.id, ticket.deadline, ticket.job, ticket.epoch) !== true) {
        this.#outstanding.remove(place);
        return false;
      }
    } catch (error) {
      this.#outstanding.remove(place);
      ticket.end({ kind: 'fault', error });
      return true;
    }
    this.#sent += 1;
    ticket.sentAt = this.port.now();
    ticket.lateAt = ticket.job.slow === true ? FOREVER : ticket.sentAt + this.#timeoutOf(ticket);
    if (ticket.lateAt !== FOREVER) this.alarm.ringAt(ticket.lateAt);
    return true;
  }

  #transmitQueued(): void {
    while (this.#queue.length > 0 && !this.isFull) {
      const ticket = this.#queue[0];
      if (ticket === undefined || !this.#transmit(ticket)) return;
      this.#queue.shift();
    }
  }

  #timeoutOf({ job, kind }: Ticket): number {
    return job.longWrite === true ? this.timing.longWriteTimeoutOf(kind) : this.timing.timeoutOf(kind);
  }

  #markLate(ticket: Ticket): void {
    ticket.late = true;
    ticket.effort?.markLate();
  }
}
