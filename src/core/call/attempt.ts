import { CKR } from '../../spec/codes.js';
import { codeName } from '../../spec/constants.js';
import { endOf, type Job, type JobReply, step } from '../../spec/job.js';
import { CKR_OK, type Verdict, verdictOn } from '../../spec/verdict.js';
import type { AttemptRecord } from '../base/event.js';
import { FOREVER, type Running, type Task, type Waiter } from '../base/task.js';
import type { Connection, Ticket } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { type Failure, failureOf, type JobOutcome, PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import type { Operation } from '../jobs/operation.js';
import { renewLogin } from '../joining/login-renewal.js';
import type { VirtualObject } from '../objects/object.js';
import { resolve } from '../replicas/resolve.js';

interface CodeEnd {
  readonly kind: 'code';
  readonly verdict: Verdict;
  readonly function: string;
  readonly code: number;
  /** It is about what the job itself had begun on its session, so that a new one would not help. */
  readonly isOwn?: boolean;
}

/** How an attempt ended. */
export type AttemptEnd =
  | { readonly kind: 'ok'; readonly reply: JobReply }
  | CodeEnd
  | { readonly kind: 'absent' }
  | { readonly kind: 'misaligned' }
  | Exclude<Failure, { readonly kind: 'code' }>;

export function codeOf(end: AttemptEnd | undefined): number | undefined {
  return end?.kind === 'code' ? end.code : undefined;
}

export function verdictOf(end: AttemptEnd | undefined): Verdict | undefined {
  return end?.kind === 'code' ? end.verdict : undefined;
}
/** A token that loses its sessions so often in one attempt is left to another member. */
const MOST_RENEWALS = 4;

function evidenceOf(end: AttemptEnd | undefined): Pick<AttemptRecord, 'function' | 'code' | 'outcome'> {
  const silent = { function: '', code: undefined };
  switch (end?.kind) {
    case 'code':
      return { function: end.function, code: end.code, outcome: codeName(end.code) };
    case 'ok':
      return { function: '', code: CKR_OK, outcome: 'ok' };
    case 'lost':
      return { ...silent, outcome: end.reason };
    case 'absent':
      return { ...silent, function: 'C_FindObjects', outcome: 'the object is not there' };
    case 'misaligned':
      return { ...silent, function: 'C_FindObjects', outcome: 'another object of the same name is there' };
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

/**
 * One try at a call on one member. Where all that it needs is known it is one job, and judged when that is replied to;
 * a task goes on from there only where something has to be found or made new.
 */
export class Attempt extends PendingWork implements Waiter {
  readonly member: Member;
  readonly connection: Connection;
  private readonly group: Group;
  readonly startedAt: number;
  /** The group's count of changes of state when it began. */
  readonly groupMoves: number;
  end: AttemptEnd | undefined;
  /** The login that the handles in its reply are of. */
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

  start(operation: Operation<unknown>, deadline: number): this {
    this.operation = operation;
    this.deadline = deadline;
    const handles = this.connection.renewing === undefined ? this.#knownHandles(operation) : undefined;
    if (handles === undefined) this.running = this.group.port.start(this.#run(operation, undefined));
    else this.#send(operation, handles);
    return this;
  }

  /** Gives the attempt up; what is out at the host runs to its end unheard. */
  cancel(): void {
    if (this.completed) return;
    if (this.running !== undefined) this.running.cancel(undefined);
    else if (this.ticket !== undefined) this.connection.abandon(this.ticket);
    this.complete();
  }

  /** The job has come to its end. */
  wake(): void {
    const { ticket, operation } = this;
    if (this.completed || operation === undefined || ticket?.outcome === undefined) return;
    this.ticket = undefined;
    const end = this.#endOf(operation, ticket.outcome);
    if (end.kind !== 'code' || !this.#mayGoOn(operation, end)) this.#finish(end);
    else this.running = this.group.port.start(this.#run(operation, end));
  }

  get record(): AttemptRecord {
    const duration = this.group.port.now() - this.startedAt;
    return { member: this.member.name, duration, ...evidenceOf(this.end) };
  }

  /** The handles of the operation's objects, where all of them are known to be usable. */
  #knownHandles({ objects }: Operation<unknown>): readonly Uint8Array[] | undefined {
    const handles: Uint8Array[] = [];
    for (const object of objects) {
      const replica = this.connection.replicas.get(object);
      if (replica?.kind !== 'usable') return undefined;
      handles.push(replica.handle);
    }
    return handles;
  }

  #send(operation: Operation<unknown>, handles: readonly Uint8Array[]): void {
    let job: Job;
    try {
      job = operation.job(handles, this);
    } catch (error) {
      this.#finish({ kind: 'fault', error });
      return;
    }
    const { connection } = this;
    this.executedIn = this.epoch ?? connection.epoch;
    this.ticket = connection.submit(job, operation.kind, this.deadline, this);
    if (this.ticket.completed) this.wake();
    else this.ticket.add(this);
  }

  #finish(end: AttemptEnd): void {
    this.end = end;
    this.complete();
  }

  *#run(operation: Operation<unknown>, first: CodeEnd | undefined): Task<void> {
    try {
      this.end = yield* this.#perform(operation, this.deadline, first);
    } catch (error) {
      this.end = { kind: 'fault', error };
    } finally {
      this.complete();
    }
  }

  *#perform(operation: Operation<unknown>, deadline: number, first: CodeEnd | undefined): Task<AttemptEnd> {
    const { connection, member } = this;
    let renewals = 0;
    let refound = false;
    let sentAt = this.startedAt;
    for (let known = first; ; known = undefined) {
      if (known === undefined && connection.renewing !== undefined) yield* this.follow(connection.renewing);
      if (known === undefined) sentAt = this.group.port.now();
      const end: AttemptEnd = known ?? (yield* this.#try(operation, renewals > 0, deadline));
      // It was there a moment ago: somebody destroyed it, or the whole token is not what it was.
      if (end.kind === 'absent' && refound) member.suspect(connection, 'an object has vanished from it');
      if (end.kind !== 'code') return end;
      if (end.verdict === 'object' && operation.objects.length > 0 && !refound) {
        // The cached handle is void, or the object is gone: found again once, and proven again.
        refound = true;
        connection.survey = undefined;
        for (const object of operation.objects) connection.replicas.delete(object);
      } else if (end.verdict === 'session' && !end.isOwn && (yield* this.#mayRenew(renewals, deadline))) {
        renewals += 1;
        const failure = connection.renewedAt > sentAt ? undefined : yield* this.#renew();
        if (failure !== undefined) return failure;
      } else {
        // On a new session, or one that was used a moment ago, after a good login: then it may well be the request, which another member can tell.
        return end.verdict === 'session' ? { ...end, verdict: 'ambiguous' } : end;
      }
    }
  }

  *#try(operation: Operation<unknown>, fresh: boolean, deadline: number): Task<AttemptEnd> {
    const handles = yield* this.#locate(operation);
    if ('kind' in handles) return handles;
    const job = operation.job(handles, this);
    this.executedIn = this.epoch ?? this.connection.epoch;
    const outcome = yield* this.connection.run(
      fresh ? { ...job, onNewSession: fresh } : job,
      operation.kind,
      deadline,
      this,
    );
    return this.#endOf(operation, outcome);
  }

  /** Whether there is more to be done after that code, here, than to say so. */
  #mayGoOn(operation: Operation<unknown>, { verdict }: CodeEnd): boolean {
    return verdict === 'session' || (verdict === 'object' && operation.objects.length > 0);
  }

  #endOf(operation: Operation<unknown>, outcome: JobOutcome): AttemptEnd {
    if (outcome.kind !== 'reply') return outcome;
    const { reply } = outcome;
    const failure = (verdict: Verdict, code: number): AttemptEnd => ({
      kind: 'code',
      verdict,
      function: operation.function,
      code,
    });
    if (reply.status === 'malformed') return failure('caller', CKR.argumentsBad);
    // What a pure call makes are session objects: they have ended with their session.
    if (reply.status === 'unclean' && (operation.aspect !== 'pure' || endOf(reply).code === CKR_OK))
      return { kind: 'lost', begun: true, charged: false, reason: 'it could not undo a failed call' };
    // The same at another member means it is the request: so it is not judged as a member that is busy.
    if (reply.status === 'unsendable') return failure('ambiguous', CKR.hostMemory);
    const { call, code } = endOf(reply);
    const verdict = verdictOn(code, this.group.policy.verdicts);
    const isOwn = code === CKR.operationNotInitialized && reply.results.length > 1;
    if (verdict !== 'ok') return { kind: 'code', verdict, function: call, code, isOwn };
    // A code that is no failure, from a call that has no business to give it, is no result either.
    if (code !== CKR_OK && !operation.results.has(code))
      return { kind: 'code', verdict: 'ambiguous', function: call, code };
    return { kind: 'ok', reply };
  }

  /** Once unasked; then only where a new session shows that the token has forgotten the login of just now as well. */
  *#mayRenew(renewals: number, deadline: number): Task<boolean> {
    if (renewals === 0) return true;
    if (renewals === MOST_RENEWALS) return false;
    const look = { steps: [step('C_GetSessionInfo')], fresh: true };
    const failure = failureOf(yield* this.connection.run(look, 'session', deadline, this));
    return failure?.kind === 'code' && verdictOn(failure.code, this.group.policy.verdicts) === 'session';
  }

  *#renew(): Task<AttemptEnd | undefined> {
    const renewal = renewLogin(this.group, this.member, this.connection);
    yield* this.follow(renewal);
    return renewal.failure === undefined ? undefined : this.judged(renewal.failure);
  }

  /** The real handles of the operation's objects. */
  *#locate(operation: Operation<unknown>): Task<readonly Uint8Array[] | AttemptEnd> {
    const handles: Uint8Array[] = [];
    for (const object of operation.objects) {
      const located = yield* this.#locateOne(object);
      if (!(located instanceof Uint8Array)) return located;
      handles.push(located);
    }
    return handles;
  }

  *#locateOne(object: VirtualObject): Task<Uint8Array | AttemptEnd> {
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

  /** A failure on the way, with its verdict. */
  judged(failure: Failure): AttemptEnd {
    if (failure.kind !== 'code') return failure;
    return { ...failure, verdict: verdictOn(failure.code, this.group.policy.verdicts) };
  }
}
