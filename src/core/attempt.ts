import { ck, codeName } from '../spec/constants.js';
import { endOf, type JobReply } from '../spec/job.js';
import { CKR_OK, type Verdict, verdictOn } from '../spec/verdict.js';
import type { Connection } from './connection.js';
import type { AttemptRecord } from './event.js';
import type { Group } from './group.js';
import type { Member } from './member.js';
import type { Operation } from './operation.js';
import { Effort, type Failure } from './outcome.js';
import { resolve } from './resolve.js';
import { renewLogin } from './session.js';
import { FOREVER, type Running, type Task } from './task.js';

/** How an attempt ended. */
export type AttemptEnd =
  | { readonly kind: 'ok'; readonly reply: JobReply }
  | { readonly kind: 'code'; readonly verdict: Verdict; readonly function: string; readonly code: number }
  | { readonly kind: 'absent' }
  | { readonly kind: 'misaligned' }
  | Exclude<Failure, { readonly kind: 'code' }>;

const NO_HANDLE = new Uint8Array(8);
const argumentsBad = ck('CKR_ARGUMENTS_BAD');
const hostMemory = ck('CKR_HOST_MEMORY');

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
    case 'fault':
      return { ...silent, outcome: 'not sent' };
    default:
      return { ...silent, outcome: 'no answer' };
  }
}

/** One try at a call on one member. */
export class Attempt extends Effort {
  readonly startedAt: number;
  end: AttemptEnd | undefined;
  #running: Running<void> | undefined;

  constructor(
    readonly member: Member,
    readonly connection: Connection,
    private readonly group: Group,
  ) {
    super();
    this.startedAt = group.port.now();
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
    const { connection, group } = this;
    let renewed = false;
    let refound = false;
    for (;;) {
      const handle = yield* this.#locate(operation);
      if (!(handle instanceof Uint8Array)) {
        // It was there a moment ago: somebody destroyed it, or the whole token is not what it was.
        if (handle.kind === 'absent' && refound) this.member.suspect(connection, 'an object has vanished from it');
        if (handle.kind !== 'code' || handle.verdict !== 'session' || renewed) return handle;
      } else {
        const sentAt = group.port.now();
        const job = operation.job(handle);
        const outcome = yield* connection.run(renewed ? { ...job, fresh: true } : job, operation.kind, deadline, this);
        if (outcome.kind !== 'reply') return outcome;
        if (outcome.reply.status === 'malformed')
          return { kind: 'code', verdict: 'caller', function: operation.function, code: argumentsBad };
        // The same at another member means it is the request: so it is not judged as a member that is busy.
        if (outcome.reply.status === 'unsendable') {
          return { kind: 'code', verdict: 'ambiguous', function: operation.function, code: hostMemory };
        }
        const end = endOf(outcome.reply);
        const verdict = verdictOn(end.code, group.policy.verdicts);
        if (verdict === 'ok') return { kind: 'ok', reply: outcome.reply };
        const failure: AttemptEnd = { kind: 'code', verdict, function: end.call, code: end.code };
        if (verdict === 'object' && operation.object !== undefined && !refound) {
          // The cached handle is void, or the object is gone: found again once, and proven again.
          refound = true;
          connection.replicas.delete(operation.object);
          continue;
        }
        if (verdict !== 'session' || renewed) return failure;
        if (connection.renewedAt > sentAt) {
          renewed = true;
          continue;
        }
      }
      renewed = true;
      const renewal = yield* renewLogin(group, connection);
      if (renewal !== undefined) return this.#judged(renewal);
    }
  }

  /** The real handle of the operation's object; an empty one when it needs none. */
  *#locate(operation: Operation<unknown>): Task<Uint8Array | AttemptEnd> {
    const { object } = operation;
    if (object === undefined) return NO_HANDLE;
    const known = this.connection.replicas.get(object);
    if (known?.kind === 'usable') return known.handle;
    if (known?.kind === 'misaligned') return { kind: 'misaligned' };
    const resolution = resolve(this.group, this.member, this.connection, object);
    while (!resolution.settled) {
      if (resolution.late) this.markLate();
      yield { signals: [resolution], until: FOREVER };
    }
    const { result } = resolution;
    switch (result?.kind) {
      case 'usable':
        return result.handle;
      case 'misaligned':
      case 'absent':
        return { kind: result.kind };
      default:
        return result === undefined ? { kind: 'withdrawn' } : this.#judged(result);
    }
  }

  #judged(failure: Failure): AttemptEnd {
    if (failure.kind !== 'code') return failure;
    return { ...failure, verdict: verdictOn(failure.code, this.group.policy.verdicts) };
  }
}
