import { CKR } from '../../spec/codes.js';
import { codeName } from '../../spec/constants.js';
import { endOf, type Job, type JobReply, type Step, step } from '../../spec/job.js';
import { verdictOn } from '../../spec/verdict.js';
import { TokenError } from '../base/error.js';
import type { Running, Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import { runCall } from '../call/call.js';
import type { Group } from '../group/group.js';
import type { HeldStream } from '../group/held-stream.js';
import { failureOf, type JobOutcome, PendingWork } from '../group/job-outcome.js';
import { type Beginning, type DataResult, finalStep, initStep, outputIn, updateStep } from '../jobs/data-operation.js';
import { kindOfOperation, type Location, type Operation, verificationFailures } from '../jobs/operation.js';
import { functionsOf, isCipher } from '../jobs/operation-kind.js';
import { type HeldSession, releaseSession } from './held-session.js';
import { ReplayRecord } from './replay-record.js';

/** Next input of a stream: data, or the end. */
type Input = { readonly data: Uint8Array } | { readonly signature: Uint8Array | undefined };

/** Verdicts that blame the member, not the request: the stream goes on elsewhere. */
const memberVerdicts: ReadonlySet<string> = new Set(['session', 'member', 'busy', 'object', 'credential', 'ambiguous']);

/** Interval between tries of a job that was withdrawn while its session still exists (ms). */
const SEND_AGAIN = 20;

/** Number of the last session that was held. */
let lastNumber = 0;

/**
 * Multi-part operation that holds a session on one member, because its Updates return output or because its data
 * exceeds `policy.replayLimit`. While the input is kept, up to that limit, the stream survives the loss of its member:
 * all input runs again on another member, whose output must equal what the application was given.
 */
export class Stream implements HeldStream {
  readonly #group: Group;
  readonly #beginning: Beginning;
  readonly #pin: ((location: Location) => { readonly length: number }) | undefined;
  #held: HeldSession | undefined;
  readonly #replay: ReplayRecord;
  #hasEnded = false;

  constructor(
    group: Group,
    beginning: Beginning,
    parts: readonly Uint8Array[],
    pin?: (location: Location) => { readonly length: number },
  ) {
    this.#group = group;
    this.#beginning = beginning;
    this.#pin = pin;
    this.#replay = new ReplayRecord(parts);
  }

  /** True if the stream can give up its session for another stream and run again later. */
  get mayMove(): boolean {
    return this.#replay.parts !== undefined;
  }

  /** Adds data; returns the output, empty for kinds without output. */
  *update(data: Uint8Array, deadline: number): Task<Buffer> {
    const { output } = yield* this.#put({ data }, deadline);
    // A copy: the application may go on to use its buffer.
    this.#replay.add(new Uint8Array(data), this.#group.policy.replayLimit);
    return output;
  }

  /** Ends the operation; `signature` is given for a verification. */
  *final(signature: Uint8Array | undefined, deadline: number): Task<DataResult> {
    try {
      return yield* this.#put({ signature }, deadline);
    } finally {
      this.end();
    }
  }

  /** Releases the session; the stream goes on from its kept input. */
  leave(): void {
    const held = this.#held;
    if (held === undefined) return;
    this.#held = undefined;
    held.connection.streams.delete(this);
    releaseSession(this.#group, held.connection, held.number);
  }

  end(): void {
    this.leave();
    this.#hasEnded = true;
    this.#replay.end();
  }

  /** Takes back the last Update and its output, since for the application the Update has not happened. */
  takeBack(output: Buffer): void {
    if (this.#replay.parts === undefined) return;
    this.#replay.takeBack(output);
    this.leave();
  }

  get #name(): string {
    return functionsOf[this.#beginning.kind].update ?? '';
  }

  /** Puts input into the held session; takes a session on another member if there is none, or it is lost. */
  *#put(input: Input, deadline: number): Task<DataResult> {
    for (;;) {
      if (this.#hasEnded) throw this.#lost('the operation was ended');
      const held = this.#currentSession();
      if (held === undefined) return yield* this.#runFromStart(input, deadline);
      const outcome = yield* this.#runOnHeld(held, input, deadline);
      if (
        outcome?.kind === 'withdrawn' &&
        this.#replay.parts === undefined &&
        this.#group.port.now() + SEND_AGAIN < deadline
      ) {
        // The job did not run, and the stream cannot run again elsewhere: the session may still exist.
        yield* race([held.connection.ended], this.#group.port.now() + SEND_AGAIN);
        if (this.#held === held && this.#currentSession() === held) continue;
      }
      const done = this.#judge(held, outcome);
      if (done !== undefined) return this.#read(done, 1);
      this.leave();
      if (this.#replay.parts === undefined) throw this.#lost(`member ${held.member.name} lost its session`);
      if (this.#group.port.now() >= deadline) throw this.#lost(`member ${held.member.name} did not answer in time`);
    }
  }

  /** Runs all input on a member that routing finds, and holds the session there from then on. */
  *#runFromStart(input: Input, deadline: number): Task<DataResult> {
    const { parts } = this.#replay;
    if (parts === undefined) throw this.#lost('the held session was lost');
    const tried = new Map<number, Location>();
    this.#replay.restart();
    const operation = this.#operationFor(input, parts, tried);
    try {
      return yield* runCall(this.#group, operation, deadline);
    } finally {
      for (const [number, { connection }] of tried)
        if (number !== this.#held?.number) releaseSession(this.#group, connection, number);
    }
  }

  /** Makes the operation that runs all input; `tried` gets the number and place of each session that is opened. */
  #operationFor(input: Input, parts: readonly Uint8Array[], tried: Map<number, Location>): Operation<DataResult> {
    const beginning = this.#beginning;
    const { kind, mechanism, key, only } = beginning;
    const before = parts.length === 0 ? [] : [updateStep(beginning, Buffer.concat(parts))];
    const name = 'data' in input ? this.#name : (functionsOf[kind].final ?? '');
    return {
      function: name,
      objects: key === undefined ? [] : [key],
      mechanism: mechanism.type,
      only,
      aspect: 'pure',
      kind: kindOfOperation(name, mechanism.type, this.#replay.size + ('data' in input ? input.data.length : 0)),
      results: kind === 'verify' ? verificationFailures : new Set(),
      job: ([handle], location): Job => {
        lastNumber += 1;
        tried.set(lastNumber, location);
        const secret = this.#pin?.(location);
        const logIn = secret === undefined ? [] : [step('X_LogInAgain', secret.length)];
        const steps = [
          step('X_Hold', lastNumber, true),
          initStep(beginning, handle),
          ...logIn,
          ...before,
          ...this.#stepsFor(input, lastNumber),
        ];
        if (secret === undefined) return { steps };
        const writes = location.member.writesExclusively;
        return { steps, secret, exclusive: writes, longWrite: writes };
      },
      read: (reply, location) => {
        const number = this.#numberAt(location, tried);
        const at = 2 + (this.#pin === undefined ? 0 : 1);
        if (number !== undefined && 'data' in input)
          this.#hold({ ...location, number, epoch: location.connection.epoch });
        if (before.length > 0) this.#take(this.#outputIn(reply, at));
        return this.#read(reply, at + before.length);
      },
    };
  }

  /** Returns the last number that was tried at a place, since an attempt may send its job more than once. */
  #numberAt({ connection }: Location, tried: ReadonlyMap<number, Location>): number | undefined {
    return [...tried].findLast(([, location]) => location.connection === connection)?.[0];
  }

  #hold({ member, connection, number, epoch }: HeldSession): void {
    this.#held = { member, connection, number, epoch };
    // If a host has too many held sessions, the streams that were unused longest give up theirs.
    const { streams, maxHeldSessions } = connection;
    streams.add(this);
    for (const other of streams) {
      if (streams.size <= maxHeldSessions) break;
      if (other !== this && other.mayMove) other.leave();
    }
  }

  /** Returns the held session if its host and login still last; otherwise releases it. */
  #currentSession(): HeldSession | undefined {
    const held = this.#held;
    if (held === undefined) return undefined;
    const { connection, member, epoch } = held;
    if (connection.end === undefined && connection === member.connection && connection.epoch === epoch) return held;
    this.leave();
    return undefined;
  }

  #stepsFor(input: Input, number: number): Step[] {
    if ('data' in input) return [updateStep(this.#beginning, input.data)];
    return [finalStep(this.#beginning, input.signature), step('X_Release', number)];
  }

  /** Runs input on the held session; undefined if the stream goes elsewhere or the deadline has passed. */
  *#runOnHeld(held: HeldSession, input: Input, deadline: number): Task<JobOutcome | undefined> {
    const group = this.#group;
    const { connection, number } = held;
    const work = new PendingWork();
    work.epoch = held.epoch;
    const job: Job = { steps: [step('X_Hold', number, false), ...this.#stepsFor(input, number)] };
    const kind = kindOfOperation(this.#name, this.#beginning.mechanism.type, 'data' in input ? input.data.length : 0);
    const running: Running<JobOutcome> = group.port.start(connection.run(job, kind, deadline, work));
    // The stream that was used last is the last to give up its session.
    connection.streams.delete(this);
    connection.streams.add(this);
    try {
      while (!running.completed && group.port.now() < deadline && !this.#mayGoElsewhere(held, work))
        yield* race([running, work, group.changed], deadline);
      return running.ended?.ok === true ? running.ended.value : undefined;
    } finally {
      if (!running.completed) running.cancel(undefined);
    }
  }

  /** Returns true if the job is late and another member can run all input again. */
  #mayGoElsewhere({ member }: HeldSession, work: PendingWork): boolean {
    if (this.#replay.parts === undefined || !(work.late || !member.isServing)) return false;
    const { only } = this.#beginning;
    return only === undefined && this.#group.members.some((other) => other !== member && other.isServing);
  }

  /** Returns the reply; undefined if the member is to blame. Throws if the request is to blame. */
  #judge({ member, connection }: HeldSession, outcome: JobOutcome | undefined): JobReply | undefined {
    const failure = outcome === undefined ? undefined : failureOf(outcome);
    if (outcome?.kind === 'reply') {
      const { code } = endOf(outcome.reply);
      if (failure === undefined || (this.#beginning.kind === 'verify' && verificationFailures.has(code)))
        return outcome.reply;
    }
    if (failure?.kind === 'fault') throw failure.error;
    if (failure?.kind !== 'code') return undefined;
    const verdict = verdictOn(failure.code, this.#group.policy.verdicts);
    if (!memberVerdicts.has(verdict) || (verdict === 'ambiguous' && this.#replay.parts === undefined)) {
      this.end();
      throw new TokenError(failure.code, failure.function, '', [], member.name);
    }
    if (verdict === 'member') member.suspect(connection, `${failure.function} answered ${codeName(failure.code)}`);
    return undefined;
  }

  #read(reply: JobReply, index: number): DataResult {
    if (this.#hasEnded) throw this.#lost('the operation was ended during the call');
    const last = reply.results[index];
    return { code: last?.code ?? CKR.ok, output: this.#take(this.#outputIn(reply, index)) };
  }

  #outputIn(reply: JobReply, index: number): Buffer {
    const { mechanism } = this.#beginning;
    const before = bytesReturned(mechanism.fields);
    const output = outputIn(reply, index, mechanism);
    // If the token picked an IV, another token would pick another: the stream cannot run again.
    if (!before.equals(bytesReturned(mechanism.fields))) this.#replay.drop();
    return output;
  }

  /** Takes output; returns the bytes that the application was not given yet. */
  #take(output: Buffer): Buffer {
    const fresh = this.#replay.take(output, isCipher(this.#beginning.kind));
    if (fresh !== undefined) return fresh;
    this.end();
    throw this.#lost('another member gives other output for the same input');
  }

  #lost(reason: string): TokenError {
    const limit = this.#group.policy.replayLimit;
    const explanation =
      this.#replay.parts === undefined
        ? `${reason}, and the operation cannot run again on another member (policy.replayLimit is ${limit} bytes)`
        : reason;
    return new TokenError(CKR.deviceRemoved, this.#name, explanation);
  }
}

/** Returns the bytes of fields that a token may change. */
function bytesReturned(fields: Beginning['mechanism']['fields']): Buffer {
  return Buffer.concat(fields.flatMap((field) => (field.kind === 'returned' ? [field.value] : [])));
}
