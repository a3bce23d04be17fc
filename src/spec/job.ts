import { type ArgumentsOf, type CallName, calls, type ResultOf } from './calls.js';
import { CKR } from './codes.js';
import { Reader, type Writer } from './wire.js';

/** One call of a job. */
export interface Step {
  readonly call: CallName;
  readonly arguments: readonly unknown[];
  /** It may fail: the job then goes on. */
  readonly optional?: boolean;
}

export function step<C extends CallName>(call: C, ...args: ArgumentsOf<C>): Step {
  return { call, arguments: args };
}

/** A step that may fail without ending its job. */
export function optional(step: Step): Step {
  return { ...step, optional: true };
}

/** PINs in guarded memory; the channel knows what is behind it. */
export interface SecretRef {
  readonly length: number;
}

/**
 * A short sequence of calls, run on one session without interruption, until one fails. It leaves its session
 * idle, or the host replaces the session.
 */
export interface Job {
  readonly steps: readonly Step[];
  /** Runs alone: nothing else of the host runs beside it. */
  readonly exclusive?: boolean;
  /** Writes token objects or makes keys: takes longer than others before it counts as hung (Rule 9). */
  readonly longWrite?: boolean;
  /** Makes a key pair, which may take as long as it likes: not late before it is hung. */
  readonly slow?: boolean;
  /** When a step fails, what the steps before it made is destroyed again. */
  readonly undo?: boolean;
  /** On the session that keeps the login: session objects that it makes live as long as that. */
  readonly onLoginSession?: boolean;
  /** Runs on a session that is opened for it. */
  readonly onNewSession?: boolean;
  /** Needs no session of the lane: module, slot and login calls. */
  readonly sessionless?: boolean;
  /** The PIN of a job whose last step is C_Login; the old PIN and the new one where that is C_SetPIN, or a record of both. */
  readonly secret?: SecretRef;
}

export interface StepResult {
  readonly call: CallName;
  readonly code: number;
  readonly value: unknown;
  /** It was one that may fail. */
  readonly optional?: boolean;
}

/**
 * `expired`: the deadline passed before the job began, or its handles are of an earlier login; nothing was run.
 * `unsendable`: it was run, and its results are too large, or there was no memory for them. `unclean`: a step
 * failed, and not all that the steps before it made could be destroyed.
 */
export interface JobReply {
  readonly id: number;
  readonly status: 'done' | 'expired' | 'malformed' | 'unsendable' | 'unclean';
  readonly results: readonly StepResult[];
}

const flags = {
  exclusive: 1,
  onNewSession: 2,
  sessionless: 4,
  secret: 8,
  longWrite: 16,
  undo: 32,
  onLoginSession: 64,
  login: 128,
} as const;
const optionalBit = 0x8000_0000;
const statuses = ['done', 'expired', 'malformed', 'unsendable', 'unclean'] as const;

const nameByNumber = new Map<number, CallName>(
  (Object.keys(calls) as CallName[]).map((name) => [calls[name].number, name]),
);

/**
 * The packet of a job; `deadline` in ms of the monotonic clock, `epoch` of the login that its handles are
 * from. See native/host/job.h.
 */
export function writeJob(writer: Writer, id: number, deadline: number, job: Job, epoch: number = 0): void {
  writer.reset();
  writer.u64(id);
  writer.u64(Number.isFinite(deadline) ? Math.max(1, Math.round(deadline * 1e6)) : 0);
  writer.u32(
    ((job.exclusive === true ? flags.exclusive : 0) |
      (job.onNewSession === true ? flags.onNewSession : 0) |
      (job.sessionless === true ? flags.sessionless : 0) |
      (job.secret === undefined ? 0 : flags.secret) |
      (job.secret !== undefined && job.steps.at(-1)?.call === 'C_Login' ? flags.login : 0) |
      (job.longWrite === true ? flags.longWrite : 0) |
      (job.undo === true ? flags.undo : 0) |
      (job.onLoginSession === true ? flags.onLoginSession : 0) |
      ((epoch & 0xff_ffff) << 8)) >>>
      0,
  );
  writer.u32(job.steps.length);
  for (const { call, arguments: args, optional: mayFail } of job.steps) {
    const definition = calls[call];
    writer.u32(mayFail === true ? definition.number + optionalBit : definition.number);
    const writes = definition.arguments as unknown as readonly ((writer: Writer, value: unknown) => void)[];
    for (let i = 0; i < writes.length; i += 1) writes[i]?.(writer, args[i]);
  }
}

/** A host's reply, from `at` to `end` of these bytes; a RangeError for what is none. */
export function readReply(bytes: Buffer, at?: number, end?: number): JobReply {
  const reader = new Reader(bytes, at, end);
  const id = reader.u64();
  const status = statuses[reader.u32()] ?? 'malformed';
  const results = reader.list((item): StepResult => {
    const number = item.u32();
    const isOptional = number >= optionalBit;
    const call = nameByNumber.get(isOptional ? number - optionalBit : number) ?? 'C_OpenSession';
    const code = item.u64();
    const value = code === CKR.ok || call === 'X_Load' ? calls[call].result(item) : undefined;
    return { call, code, value, optional: isOptional };
  });
  return { id, status, results };
}

/** The value that step `index` of a successful job gave. */
export function resultOf<C extends CallName>(reply: JobReply, index: number, call: C): ResultOf<C> {
  const result = reply.results[index];
  if (result?.call !== call || result.code !== CKR.ok) throw new RangeError(`step ${index} is no successful ${call}`);
  return result.value as ResultOf<C>;
}

/** The call and code that ended a job: its last step's, unless that was one that may fail. */
export function endOf(reply: JobReply): { readonly call: CallName; readonly code: number } {
  const last = reply.results.at(-1);
  if (last?.optional === true) return { call: last.call, code: CKR.ok };
  return last ?? { call: 'C_OpenSession', code: CKR.generalError };
}
