import { ck, codeName } from '../spec/constants.js';
import { endOf, type JobReply, step } from '../spec/job.js';
import { CKR_OK, type Verdict, verdictOn } from '../spec/verdict.js';
import type { Connection } from './connection.js';
import type { AttemptRecord } from './event.js';
import type { Group } from './group.js';
import type { Member } from './member.js';
import type { VirtualObject } from './object.js';
import type { Operation } from './operation.js';
import { Effort, type Failure, failureOf } from './outcome.js';
import { resolve } from './resolve.js';
import { renewLogin } from './session.js';
import type { Running, Task } from './task.js';

/** How an attempt ended. */
export type AttemptEnd =
  | { readonly kind: 'ok'; readonly reply: JobReply }
  | {
      readonly kind: 'code';
      readonly verdict: Verdict;
      readonly function: string;
      readonly code: number;
      /** It is about what the job itself had begun on its session, so that a new one would not help. */
      readonly isOwn?: boolean;
    }
  | { readonly kind: 'absent' }
  | { readonly kind: 'misaligned' }
  | Exclude<Failure, { readonly kind: 'code' }>;

export function codeOf(end: AttemptEnd | undefined): number | undefined {
  return end?.kind === 'code' ? end.code : undefined;
}

export function verdictOf(end: AttemptEnd | undefined): Verdict | undefined {
  return end?.kind === 'code' ? end.verdict : undefined;
}

const argumentsBad = ck('CKR_ARGUMENTS_BAD');
const hostMemory = ck('CKR_HOST_MEMORY');
/** A token that loses its sessions so often in one attempt is left to another member. */
const MOST_RENEWALS = 4;
const notInitialized = ck('CKR_OPERATION_NOT_INITIALIZED');

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

/** One try at a call on one member. */
export class Attempt extends Effort {
  readonly startedAt: number;
  /** The group's count of changes of state when it began. */
  readonly groupMoves: number;
  end: AttemptEnd | undefined;
  /** The login that the handles in its reply are of. */
  executedIn: number = 0;
  #running: Running<void> | undefined;

  constructor(
    readonly member: Member,
    readonly connection: Connection,
    private readonly group: Group,
  ) {
    super();
    this.startedAt = group.port.now();
    this.groupMoves = group.moves;
  }

  start(operation: Operation<unknown>, deadline: number): this {
    this.#running = this.group.port.start(this.#run(operation, deadline));
    return this;
  }

  /** Gives the attempt up; what is out at the host runs to its end unheard. */
  cancel(): void {
    if (!this.settled) this.#running?.cancel(undefined);
  }

  get record(): AttemptRecord {
    const duration = this.group.port.now() - this.startedAt;
    return { member: this.member.name, duration, ...evidenceOf(this.end) };
  }

  *#run(operation: Operation<unknown>, deadline: number): Task<void> {
    try {
      this.end = yield* this.#perform(operation, deadline);
    } catch (error) {
      this.end = { kind: 'fault', error };
    } finally {
      this.settle();
    }
  }

  *#perform(operation: Operation<unknown>, deadline: number): Task<AttemptEnd> {
    const { connection, member } = this;
    let renewals = 0;
    let refound = false;
    for (;;) {
      if (connection.renewing !== undefined) yield* this.follow(connection.renewing);
      const sentAt = this.group.port.now();
      const located = yield* this.#locate(operation);
      const end = 'kind' in located ? located : yield* this.#execute(operation, located, renewals > 0, deadline);
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

  *#execute(
    operation: Operation<unknown>,
    handles: readonly Uint8Array[],
    fresh: boolean,
    deadline: number,
  ): Task<AttemptEnd> {
    const job = operation.job(handles, this);
    this.executedIn = this.epoch ?? this.connection.epoch;
    const outcome = yield* this.connection.run(fresh ? { ...job, fresh } : job, operation.kind, deadline, this);
    if (outcome.kind !== 'reply') return outcome;
    const { reply } = outcome;
    const failure = (verdict: Verdict, code: number): AttemptEnd => ({
      kind: 'code',
      verdict,
      function: operation.function,
      code,
    });
    if (reply.status === 'malformed') return failure('caller', argumentsBad);
    // What a pure call makes are session objects: they have ended with their session.
    if (reply.status === 'unclean' && (operation.aspect !== 'pure' || endOf(reply).code === CKR_OK))
      return { kind: 'lost', begun: true, charged: false, reason: 'it could not undo a failed call' };
    // The same at another member means it is the request: so it is not judged as a member that is busy.
    if (reply.status === 'unsendable') return failure('ambiguous', hostMemory);
    const { call, code } = endOf(reply);
    const verdict = verdictOn(code, this.group.policy.verdicts);
    const isOwn = code === notInitialized && reply.results.length > 1;
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
