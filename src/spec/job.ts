import { calls } from './call-codecs.js';
import type { ArgumentsOf, CallName, ResultOf } from './calls.js';
import { CKR } from './codes.js';
import { Reader, type Writer } from './wire.js';

/** Call within a job. */
export interface Step {
  readonly call: CallName;
  readonly arguments: readonly unknown[];
  /** True if the job goes on when the call fails. */
  readonly optional?: boolean;
}

/** Makes a step of a job. */
export function step<C extends CallName>(call: C, ...args: ArgumentsOf<C>): Step {
  return { call, arguments: args };
}

/** Returns a copy of a step that may fail without ending the job. */
export function optional(step: Step): Step {
  return { ...step, optional: true };
}

/** Reference to PINs in guarded memory; only the channel can read them. */
export interface SecretRef {
  readonly length: number;
}

/**
 * Short sequence of calls that a host runs on one session, without interruption, until a call fails. Afterwards the
 * session has no active operation; otherwise the host replaces the session.
 */
export interface Job {
  readonly steps: readonly Step[];
  /** True if the host runs no other job beside this job (Rule 5). */
  readonly exclusive?: boolean;
  /**
   * True if the job writes token objects or makes keys: a longer limit applies before the job counts as hung (Rule 9).
   */
  readonly longWrite?: boolean;
  /** True if the job makes a key pair: the job is not late before it counts as hung. */
  readonly slow?: boolean;
  /** True if the host destroys the objects that earlier steps made when a step fails. */
  readonly undo?: boolean;
  /** True if the job runs on the session that keeps the login: its session objects live as long as that session. */
  readonly onLoginSession?: boolean;
  /** True if the host opens a new session for the job. */
  readonly onNewSession?: boolean;
  /** True if the job needs no session of the lane: module, slot and login calls. */
  readonly sessionless?: boolean;
  /**
   * PIN of a job whose last step is C_Login; old PIN and new PIN if the last step is C_SetPIN or writes a record of
   * both; PIN for X_LogInAgain.
   */
  readonly secret?: SecretRef;
  /** True if the job reads PINs: its reply stays out of the memory that the processes share. */
  readonly secretReply?: boolean;
}

/** Result of a step: the CKR code, and the decoded value if the call succeeded. */
export interface StepResult {
  readonly call: CallName;
  readonly code: number;
  readonly value: unknown;
  /** True if the step was allowed to fail. */
  readonly optional?: boolean;
}

/**
 * Reply of a host to a job. `expired`: the deadline passed before the job began, or the handles are of an earlier
 * login; no step ran. `unsendable`: the job ran, but the results are too large or memory ran out. `unclean`: a step
 * failed, and the host could not destroy every object that earlier steps made.
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
  lockToken: 256,
  secretReply: 512,
} as const;
const optionalBit = 0x8000_0000;
const statuses = ['done', 'expired', 'malformed', 'unsendable', 'unclean'] as const;

const nameByNumber = new Map<number, CallName>(
  (Object.keys(calls) as CallName[]).map((name) => [calls[name].number, name]),
);

/**
 * Returns true if the host holds the token's lock during the job, where one is in use (X_UseTokenLock). A job that makes
 * a key pair takes too long for that; of token objects it makes transport keys only, while a member joins.
 */
function locksToken({ exclusive, longWrite, slow }: Job): boolean {
  return exclusive === true && longWrite === true && slow !== true;
}

/**
 * Writes the packet of a job. `deadline` is in ms of CLOCK_BOOTTIME; `epoch` is that of the login which the job's
 * handles belong to. The host reads the packet in native/host/job.h.
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
      (locksToken(job) ? flags.lockToken : 0) |
      (job.secretReply === true ? flags.secretReply : 0) |
      ((epoch & 0x3f_ffff) << 10)) >>>
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

/** Reads a host's reply from `at` to `end` of the bytes; RangeError if the bytes end too early. */
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

/**
 * Returns true if a reply can be that of a job: the results are those of its first steps, in their order, each with as
 * many objects and attributes as were asked for. Only a step that was allowed to fail may have failed before the last.
 * If the host could not open the session, the only result is that of C_OpenSession.
 */
export function fitsJob({ status, results }: JobReply, { steps, sessionless }: Job): boolean {
  const [first] = results;
  if (first?.call === 'C_OpenSession' && first.code !== CKR.ok && results.length === 1 && sessionless !== true)
    return true;
  if (results.length > steps.length) return false;
  const isFit = results.every((result, index) => {
    const asked = steps[index];
    const isLast = index === results.length - 1;
    return (
      asked !== undefined && fitsStep(result, asked) && (result.code === CKR.ok || result.optional === true || isLast)
    );
  });
  if (!isFit || status !== 'done') return isFit;
  const last = results.at(-1);
  return results.length === steps.length || (last !== undefined && last.code !== CKR.ok && last.optional !== true);
}

function fitsStep({ call, code, value, optional: mayFail }: StepResult, asked: Step): boolean {
  if (call !== asked.call || (mayFail === true) !== (asked.optional === true)) return false;
  if (code !== CKR.ok) return true;
  if (call === 'C_GetAttributeValue') return (value as readonly unknown[]).length === lengthOf(asked.arguments[1]);
  if (call !== 'X_Find') return true;
  const [, most, types] = asked.arguments as ArgumentsOf<'X_Find'>;
  const found = value as ResultOf<'X_Find'>;
  return found.length <= most && found.every(({ attributes }) => attributes.length === types.length);
}

function lengthOf(list: unknown): number {
  return (list as readonly unknown[]).length;
}

/** Returns the value of step `index`; RangeError unless that step is a successful `call`. */
export function resultOf<C extends CallName>(reply: JobReply, index: number, call: C): ResultOf<C> {
  const result = reply.results[index];
  if (result?.call !== call || result.code !== CKR.ok) throw new RangeError(`step ${index} is no successful ${call}`);
  return result.value as ResultOf<C>;
}

/** Returns the call and code that ended a job: those of the last step, with CKR_OK if that step was allowed to fail. */
export function endOf(reply: JobReply): { readonly call: CallName; readonly code: number } {
  const last = reply.results.at(-1);
  if (last?.optional === true) return { call: last.call, code: CKR.ok };
  return last ?? { call: 'C_OpenSession', code: CKR.generalError };
}
