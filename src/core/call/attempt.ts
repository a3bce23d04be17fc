import { CKR } from '../../spec/codes.js';
import { endOf, type Job, step } from '../../spec/job.js';
import { CKR_OK, type Verdict, verdictOn } from '../../spec/verdict.js';
import type { AttemptRecord } from '../base/event.js';
import { FOREVER, type Running, type Task, type Waiter } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { type Failure, failureOf, type JobOutcome, PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import type { Ticket } from '../group/ticket.js';
import type { Operation } from '../jobs/operation.js';
import { renewLogin } from '../joining/login-renewal.js';
import type { VirtualObject } from '../objects/object.js';
import { resolve } from '../replicas/resolve.js';
import { type AttemptEnd, type CodeEnd, evidenceOf } from './attempt-end.js';

/** Maximum number of login renewals in one attempt; after that another member is asked. */
const MOST_RENEWALS = 4;

/**
 * Try of a call on one member. If the real handles of all objects are known, the attempt is one job and no task. A task
 * takes over if an object must be found, or if a login must be renewed.
 */
export class Attempt extends PendingWork implements Waiter {
  readonly member: Member;
  readonly connection: Connection;
  private readonly group: Group;
  readonly startedAt: number;
  /** Group's count of state changes at the start. */
  readonly groupMoves: number;
  end: AttemptEnd | undefined;
  /** Epoch of the login that handles in the reply belong to. */
  executedIn: number;
  private operation: Operation<unknown> | undefined;
  private deadline: number;
  private ticket: Ticket | undefined;
  private running: Running<void> | undefined;

  constructor(member: Member, connection: Connection, group: Group) {
    super();
    this.member = member;
    this.connection = connection;
    this.group = group;
    this.startedAt = group.port.now();
    this.groupMoves = group.moves;
    this.end = undefined;
    this.executedIn = 0;
    this.operation = undefined;
    this.deadline = FOREVER;
    this.ticket = undefined;
    this.running = undefined;
  }

  /** Starts the attempt; completes at once if the job cannot be sent. */
  start(operation: Operation<unknown>, deadline: number): this {
    this.operation = operation;
    this.deadline = deadline;
    const handles = this.connection.renewing === undefined ? this.knownHandles(operation) : undefined;
    if (handles === undefined) this.running = this.group.port.start(this.runTask(operation, undefined));
    else this.send(operation, handles);
    return this;
  }

  /** Cancels the attempt. A job that is out at the host runs to its end; its reply is ignored. */
  cancel(): void {
    if (this.completed) return;
    if (this.running !== undefined) this.running.cancel(undefined);
    else if (this.ticket !== undefined) this.connection.abandon(this.ticket);
    this.complete();
  }

  /** Called when the job has ended. */
  wake(): void {
    const { ticket, operation } = this;
    if (this.completed || operation === undefined || ticket?.outcome === undefined) return;
    this.ticket = undefined;
    const end = this.endFor(operation, ticket.outcome);
    if (end.kind !== 'code' || !this.mayGoOn(operation, end)) this.finish(end);
    else this.running = this.group.port.start(this.runTask(operation, end));
  }

  /** Evidence of the attempt so far. */
  get record(): AttemptRecord {
    const duration = this.group.port.now() - this.startedAt;
    return { member: this.member.name, duration, ...evidenceOf(this.end) };
  }

  /** Returns the real handles of the operation's objects; undefined unless all are known to be usable. */
  private knownHandles({ objects }: Operation<unknown>): readonly Uint8Array[] | undefined {
    const handles: Uint8Array[] = [];
    for (const object of objects) {
      const replica = this.connection.replicas.get(object);
      if (replica?.kind !== 'usable') return undefined;
      handles.push(replica.handle);
    }
    return handles;
  }

  private send(operation: Operation<unknown>, handles: readonly Uint8Array[]): void {
    let job: Job;
    try {
      job = operation.job(handles, this);
    } catch (error) {
      this.finish({ kind: 'fault', error });
      return;
    }
    const { connection } = this;
    this.executedIn = this.epoch ?? connection.epoch;
    this.ticket = connection.submit(job, operation.kind, this.deadline, this);
    if (this.ticket.completed) this.wake();
    else this.ticket.add(this);
  }

  private finish(end: AttemptEnd): void {
    this.end = end;
    this.complete();
  }

  private *runTask(operation: Operation<unknown>, first: CodeEnd | undefined): Task<void> {
    try {
      this.end = yield* this.perform(operation, this.deadline, first);
    } catch (error) {
      this.end = { kind: 'fault', error };
    } finally {
      this.complete();
    }
  }

  private *perform(operation: Operation<unknown>, deadline: number, first: CodeEnd | undefined): Task<AttemptEnd> {
    const { connection, member } = this;
    let renewals = 0;
    let refound = false;
    let sentAt = this.startedAt;
    for (let known = first; ; known = undefined) {
      if (known === undefined && connection.renewing !== undefined) yield* this.follow(connection.renewing);
      if (known === undefined) sentAt = this.group.port.now();
      const end: AttemptEnd = known ?? (yield* this.runJob(operation, renewals > 0, deadline));
      // The object was present a moment ago: another process destroyed it, or the token's content changed.
      if (end.kind === 'absent' && refound) member.suspect(connection, 'an object vanished from the token');
      if (end.kind !== 'code') return end;
      if (end.verdict === 'object' && operation.objects.length > 0 && !refound) {
        // The cached handle is void, or the object is gone: the attempt finds and proves the object again, once.
        refound = true;
        connection.survey = undefined;
        for (const object of operation.objects) connection.replicas.delete(object);
      } else if (end.verdict === 'session' && !end.isOwn && (yield* this.mayRenew(renewals, deadline))) {
        renewals += 1;
        const failure = connection.renewedAt > sentAt ? undefined : yield* this.renew();
        if (failure !== undefined) return failure;
      } else {
        // If a new session after a good login fails too, the request may be at fault: another member can tell.
        return end.verdict === 'session' ? { ...end, verdict: 'ambiguous' } : end;
      }
    }
  }

  private *runJob(operation: Operation<unknown>, fresh: boolean, deadline: number): Task<AttemptEnd> {
    const handles = yield* this.locate(operation);
    if ('kind' in handles) return handles;
    const job = operation.job(handles, this);
    this.executedIn = this.epoch ?? this.connection.epoch;
    const outcome = yield* this.connection.run(
      fresh ? { ...job, onNewSession: fresh } : job,
      operation.kind,
      deadline,
      this,
    );
    return this.endFor(operation, outcome);
  }

  /** Returns true if the attempt may go on after a code: renew the login, or find the objects again. */
  private mayGoOn(operation: Operation<unknown>, { verdict }: CodeEnd): boolean {
    return verdict === 'session' || (verdict === 'object' && operation.objects.length > 0);
  }

  private endFor(operation: Operation<unknown>, outcome: JobOutcome): AttemptEnd {
    if (outcome.kind !== 'reply') return outcome;
    const { reply } = outcome;
    const failure = (verdict: Verdict, code: number): AttemptEnd => ({
      kind: 'code',
      verdict,
      function: operation.function,
      code,
    });
    if (reply.status === 'malformed') return failure('caller', CKR.argumentsBad);
    // Objects that a pure call made are session objects, which ended with their session.
    if (reply.status === 'unclean' && (operation.aspect !== 'pure' || endOf(reply).code === CKR_OK))
      return { kind: 'lost', begun: true, charged: false, reason: 'the host could not undo a failed call' };
    // If another member fails the same way, the request is at fault; `busy` would blame the member alone.
    if (reply.status === 'unsendable') return failure('ambiguous', CKR.hostMemory);
    const { call, code } = endOf(reply);
    const verdict = verdictOn(code, this.group.policy.verdicts);
    const isOwn = code === CKR.operationNotInitialized && reply.results.length > 1;
    if (verdict !== 'ok') return { kind: 'code', verdict, function: call, code, isOwn };
    // A code without a failure (CKR_SIGNATURE_INVALID) is a result only of operations that expect the code.
    if (code !== CKR_OK && !operation.results.has(code))
      return { kind: 'code', verdict: 'ambiguous', function: call, code };
    return { kind: 'ok', reply };
  }

  /** Returns true for the first renewal; later only if a new session shows that the token lost the new login too. */
  private *mayRenew(renewals: number, deadline: number): Task<boolean> {
    if (renewals === 0) return true;
    if (renewals === MOST_RENEWALS) return false;
    const look: Job = { steps: [step('C_GetSessionInfo')], onNewSession: true };
    const failure = failureOf(yield* this.connection.run(look, 'session', deadline, this));
    return failure?.kind === 'code' && verdictOn(failure.code, this.group.policy.verdicts) === 'session';
  }

  private *renew(): Task<AttemptEnd | undefined> {
    const renewal = renewLogin(this.group, this.member, this.connection);
    yield* this.follow(renewal);
    return renewal.failure === undefined ? undefined : this.judged(renewal.failure);
  }

  /** Finds the real handles of the operation's objects. */
  private *locate(operation: Operation<unknown>): Task<readonly Uint8Array[] | AttemptEnd> {
    const handles: Uint8Array[] = [];
    for (const object of operation.objects) {
      const located = yield* this.locateOne(object);
      if (!(located instanceof Uint8Array)) return located;
      handles.push(located);
    }
    return handles;
  }

  private *locateOne(object: VirtualObject): Task<Uint8Array | AttemptEnd> {
    const known = this.connection.replicas.get(object);
    if (known?.kind === 'usable') return known.handle;
    if (known !== undefined && known.until > this.group.port.now()) return { kind: known.kind };
    const resolution = resolve(this.group, this.member, this.connection, object);
    yield* this.follow(resolution);
    const { result } = resolution;
    switch (result?.kind) {
      case 'usable':
        return result.handle;
      case 'misaligned':
      case 'absent':
        return { kind: result.kind };
      default:
        return result === undefined ? { kind: 'withdrawn' } : this.judged(result);
    }
  }

  /** Returns a failure with its verdict. */
  judged(failure: Failure): AttemptEnd {
    if (failure.kind !== 'code') return failure;
    return { ...failure, verdict: verdictOn(failure.code, this.group.policy.verdicts) };
  }
}
