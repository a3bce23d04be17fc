import { CKR } from '../../spec/codes.js';
import { codeName } from '../../spec/constants.js';
import { endOf, type Job, type JobReply, type Step, step } from '../../spec/job.js';
import { verdictOn } from '../../spec/verdict.js';
import { TokenError } from '../base/error.js';
import { FOREVER, type Running, type Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import { runCall } from '../call/call.js';
import type { Connection, HeldStream } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { failureOf, type JobOutcome, PendingWork } from '../group/job-outcome.js';
import { type Beginning, type DataResult, finalStep, initStep, outputIn, updateStep } from '../jobs/data-operation.js';
import { kindOfOperation, type Location, type Operation, verificationFailures } from '../jobs/operation.js';
import { functionsOf, isCipher } from '../jobs/operation-kind.js';
import { ReturnedOutput } from './returned-output.js';

/** A session that is held on a member; its number is good for one host. */
interface HeldSession extends Location {
  readonly number: number;
  readonly epoch: number;
}

/** What goes to the token next: data, or the end. */
type Move = { readonly data: Uint8Array } | { readonly signature: Uint8Array | undefined };

/** What a member says of itself, and not of the request: the session goes elsewhere. */
const ofMember: ReadonlySet<string> = new Set(['session', 'member', 'busy', 'object', 'credential', 'ambiguous']);

/** A session that could not be given back just now is given back after so long (ms). */
const RELEASE_AGAIN = 100;
/** A job that was given back is sent again after so long (ms), where its session is still there. */
const SEND_AGAIN = 20;

let numbers = 0;

/**
 * A multi-part operation that holds a session on one member, because its Updates give data back, or because it has
 * become too long to be kept. While it is kept, up to `replayLimit`, it goes on elsewhere when the member is lost: all
 * of it is run again there, and what the application was given already has to come out again.
 */
export class Stream implements HeldStream {
  readonly #group: Group;
  readonly #beginning: Beginning;
  readonly #pin: ((place: Location) => { readonly length: number }) | undefined;
  #seat: HeldSession | undefined;
  /** What went in; undefined when that was too much, or cannot be run again. */
  #record: Uint8Array[] | undefined;
  #recorded = 0;
  /** What the application was given, and how much of the same has come out of the token that has the seat. */
  readonly #given: ReturnedOutput = new ReturnedOutput();
  #produced = 0;
  #hasEnded = false;

  constructor(
    group: Group,
    beginning: Beginning,
    parts: readonly Uint8Array[],
    pin?: (place: Location) => { readonly length: number },
  ) {
    this.#group = group;
    this.#beginning = beginning;
    this.#pin = pin;
    this.#record = [...parts];
    this.#recorded = parts.reduce((sum, { length }) => sum + length, 0);
  }

  /** Whether its session can be given up for another's sake. */
  get mayMove(): boolean {
    return this.#record !== undefined;
  }

  /** The output of the data that is added; none for a kind that gives none. */
  *update(data: Uint8Array, deadline: number): Task<Buffer> {
    const { output } = yield* this.#move({ data }, deadline);
    // A copy: the application goes on to use its buffer.
    this.#keep(new Uint8Array(data));
    return output;
  }

  *final(signature: Uint8Array | undefined, deadline: number): Task<DataResult> {
    try {
      return yield* this.#move({ signature }, deadline);
    } finally {
      this.end();
    }
  }

  /** Gives its session back; it goes on with what is kept. */
  leave(): void {
    const held = this.#seat;
    if (held === undefined) return;
    this.#seat = undefined;
    held.connection.streams.delete(this);
    release(this.#group, held.connection, held.number);
  }

  end(): void {
    this.leave();
    this.#hasEnded = true;
    this.#record = undefined;
    this.#given.cut(0);
  }

  /** Takes back the last Update, which the application does not want to have happened, and what it gave. */
  unread(output: Buffer): void {
    if (this.#record === undefined) return;
    this.#recorded -= this.#record.pop()?.length ?? 0;
    this.#given.cut(this.#given.length - output.length);
    this.leave();
  }

  get #name(): string {
    return functionsOf[this.#beginning.kind].update ?? '';
  }

  *#move(move: Move, deadline: number): Task<DataResult> {
    for (;;) {
      if (this.#hasEnded) throw this.#lost('it was given up');
      const held = this.#currentSeat();
      if (held === undefined) return yield* this.#takeSeat(move, deadline);
      const outcome = yield* this.#runOnSeat(held, move, deadline);
      if (
        outcome?.kind === 'withdrawn' &&
        this.#record === undefined &&
        this.#group.port.now() + SEND_AGAIN < deadline
      ) {
        // Nothing was run, and there is no other way: the session may still be there.
        yield* race([held.connection.ended], this.#group.port.now() + SEND_AGAIN);
        if (this.#seat === held && this.#currentSeat() === held) continue;
      }
      const done = this.#judge(held, outcome);
      if (done !== undefined) return this.#read(done, 1);
      this.leave();
      if (this.#record === undefined) throw this.#lost(`${held.member.name} was lost with it`);
      if (this.#group.port.now() >= deadline) throw this.#lost(`${held.member.name} did not answer in time`);
    }
  }

  /** Runs everything on a member that routing finds, and has the session there from then on. */
  *#takeSeat(move: Move, deadline: number): Task<DataResult> {
    const record = this.#record;
    if (record === undefined) throw this.#lost('its session was lost');
    const tried = new Map<number, Location>();
    this.#produced = 0;
    const operation = this.#operationOf(move, record, tried);
    try {
      return yield* runCall(this.#group, operation, deadline);
    } finally {
      for (const [number, { connection }] of tried)
        if (number !== this.#seat?.number) release(this.#group, connection, number);
    }
  }

  #operationOf(move: Move, record: readonly Uint8Array[], tried: Map<number, Location>): Operation<DataResult> {
    const beginning = this.#beginning;
    const { kind, mechanism, key, only } = beginning;
    const before = record.length === 0 ? [] : [updateStep(beginning, Buffer.concat(record))];
    const name = 'data' in move ? this.#name : (functionsOf[kind].final ?? '');
    return {
      function: name,
      objects: key === undefined ? [] : [key],
      mechanism: mechanism.type,
      only,
      aspect: 'pure',
      kind: kindOfOperation(name, mechanism.type, this.#recorded + ('data' in move ? move.data.length : 0)),
      results: kind === 'verify' ? verificationFailures : new Set(),
      job: ([handle], place): Job => {
        numbers += 1;
        tried.set(numbers, place);
        const secret = this.#pin?.(place);
        const logIn = secret === undefined ? [] : [step('X_LogInAgain', secret.length)];
        const steps = [
          step('X_Hold', numbers, true),
          initStep(beginning, handle),
          ...logIn,
          ...before,
          ...this.#stepsOf(move, numbers),
        ];
        if (secret === undefined) return { steps };
        const writes = place.member.writesExclusively;
        return { steps, secret, exclusive: writes, longWrite: writes };
      },
      read: (reply, place) => {
        const number = this.#numberAt(place, tried);
        const at = 2 + (this.#pin === undefined ? 0 : 1);
        if (number !== undefined && 'data' in move) this.#sit({ ...place, number, epoch: place.connection.epoch });
        if (before.length > 0) this.#take(this.#outputIn(reply, at));
        return this.#read(reply, at + before.length);
      },
    };
  }

  /** The last number that was tried there: an attempt may have begun twice. */
  #numberAt({ connection }: Location, tried: ReadonlyMap<number, Location>): number | undefined {
    return [...tried].findLast(([, place]) => place.connection === connection)?.[0];
  }

  #sit({ member, connection, number, epoch }: HeldSession): void {
    this.#seat = { member, connection, number, epoch };
    // Who has waited longest gives way, and goes on from its record when it is used again.
    const { streams, maxHeldSessions } = connection;
    streams.add(this);
    for (const other of streams) {
      if (streams.size <= maxHeldSessions) break;
      if (other !== this && other.mayMove) other.leave();
    }
  }

  #currentSeat(): HeldSession | undefined {
    const held = this.#seat;
    if (held === undefined) return undefined;
    const { connection, member, epoch } = held;
    if (connection.end === undefined && connection === member.connection && connection.epoch === epoch) return held;
    this.leave();
    return undefined;
  }

  #stepsOf(move: Move, number: number): Step[] {
    if ('data' in move) return [updateStep(this.#beginning, move.data)];
    return [finalStep(this.#beginning, move.signature), step('X_Release', number)];
  }

  *#runOnSeat(held: HeldSession, move: Move, deadline: number): Task<JobOutcome | undefined> {
    const group = this.#group;
    const { connection, number } = held;
    const work = new PendingWork();
    work.epoch = held.epoch;
    const job = { steps: [step('X_Hold', number, false), ...this.#stepsOf(move, number)] };
    const kind = kindOfOperation(this.#name, this.#beginning.mechanism.type, 'data' in move ? move.data.length : 0);
    const running: Running<JobOutcome> = group.port.start(connection.run(job, kind, deadline, work));
    // The last who was used is the last to give way.
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

  /** It is late, and another member can run all of it again. */
  #mayGoElsewhere({ member }: HeldSession, work: PendingWork): boolean {
    if (this.#record === undefined || !(work.late || !member.isServing)) return false;
    const { only } = this.#beginning;
    return only === undefined && this.#group.members.some((other) => other !== member && other.isServing);
  }

  /** The reply, or undefined where the member is to blame. */
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
    if (!ofMember.has(verdict) || (verdict === 'ambiguous' && this.#record === undefined)) {
      this.end();
      throw new TokenError(failure.code, failure.function, '', [], member.name);
    }
    if (verdict === 'member') member.suspect(connection, `${failure.function} answered ${codeName(failure.code)}`);
    return undefined;
  }

  #read(reply: JobReply, index: number): DataResult {
    if (this.#hasEnded) throw this.#lost('it was ended meanwhile');
    const last = reply.results[index];
    return { code: last?.code ?? CKR.ok, output: this.#take(this.#outputIn(reply, index)) };
  }

  #outputIn(reply: JobReply, index: number): Buffer {
    const { mechanism } = this.#beginning;
    const before = bytesReturned(mechanism.fields);
    const output = outputIn(reply, index, mechanism);
    // The token has picked an IV: on another one it would be another.
    if (!before.equals(bytesReturned(mechanism.fields))) this.#record = undefined;
    return output;
  }

  /** Of what comes out, what the application has not had yet; the rest has to be what it was given. */
  #take(output: Buffer): Buffer {
    const overlap = Math.min(output.length, this.#given.length - this.#produced);
    const again = output.subarray(0, overlap);
    if (!again.equals(this.#given.slice(this.#produced, overlap))) {
      this.end();
      throw this.#lost('another member gives other data for the same input');
    }
    this.#produced += output.length;
    const fresh = output.subarray(overlap);
    if (this.#record !== undefined && isCipher(this.#beginning.kind)) this.#given.add(fresh);
    this.#forgetGiven();
    return fresh;
  }

  #keep(data: Uint8Array): void {
    if (this.#record === undefined) return;
    this.#record.push(data);
    this.#recorded += data.length;
    if (this.#recorded <= this.#group.policy.replayLimit) return;
    this.#record = undefined;
    this.#forgetGiven();
  }

  /** What cannot be run again is compared with nothing. */
  #forgetGiven(): void {
    if (this.#record !== undefined || this.#produced < this.#given.length) return;
    this.#given.cut(0);
    this.#produced = 0;
  }

  #lost(reason: string): TokenError {
    const limit = this.#group.policy.replayLimit;
    const explanation =
      this.#record === undefined
        ? `${reason}, and it cannot be run again elsewhere (policy.replayLimit is ${limit} bytes)`
        : reason;
    return new TokenError(CKR.deviceRemoved, this.#name, explanation);
  }
}

function bytesReturned(fields: Beginning['mechanism']['fields']): Buffer {
  return Buffer.concat(fields.flatMap((field) => (field.kind === 'returned' ? [field.value] : [])));
}

/** A session is given back beside what goes on. */
function release(group: Group, connection: Connection, number: number): void {
  group.port.start(releasing(group, connection, number));
}

/** As often as it takes: one that is forgotten would stay open for the host's life. */
function* releasing({ port }: Group, connection: Connection, number: number): Task<void> {
  const job: Job = { steps: [step('X_Release', number)], sessionless: true };
  while (connection.end === undefined) {
    const { kind } = yield* connection.run(job, 'release', FOREVER);
    if (kind !== 'withdrawn') return;
    yield* race([connection.ended], port.now() + RELEASE_AGAIN);
  }
}
