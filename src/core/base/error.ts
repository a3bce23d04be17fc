import pkcs11js from '#pkcs11js';
import { CKR } from '../../spec/codes.js';
import { codeName } from '../../spec/constants.js';
import type { AttemptRecord } from './event.js';
import type { Task } from './task.js';

/**
 * Error of a failed call, with its attempts. The class extends the application's copy of pkcs11js's error, so
 * `instanceof` and `.code` work as they do there. The message never holds a PIN, key or plaintext.
 */
export class TokenError extends pkcs11js.Pkcs11Error {
  /** Member that gave the code; undefined if the group gave it. */
  readonly member: string | undefined;
  /** Attempts of the call; the message tells the last eight. */
  readonly attempts: readonly AttemptRecord[];

  constructor(
    code: number,
    functionName: string,
    explanation: string,
    attempts: readonly AttemptRecord[] = [],
    member?: string,
  ) {
    super(codeName(code), code, functionName);
    this.name = 'TokenError';
    this.message = messageOf(code, functionName, explanation, attempts);
    this.member = member;
    this.attempts = attempts;
  }
}

/**
 * Error of a change whose outcome is unknown: it may have happened, or may still be undone (Rule 20). `outcomeOf` tells
 * what became of it.
 */
export class UnknownOutcomeError extends TokenError {
  constructor(
    functionName: string,
    explanation: string,
    attempts: readonly AttemptRecord[],
    /** Id of the change, for `outcomeOf`. */
    readonly operation: string,
    /** Handles of the objects that the change is about. */
    readonly handles: readonly number[],
  ) {
    const text = `${explanation}; whether the change has happened is unknown, ask for the outcome of ${operation}`;
    super(CKR.functionFailed, functionName, text, attempts);
    this.name = 'UnknownOutcomeError';
  }
}

/** Number of attempts that a message tells. */
const TOLD_ATTEMPTS = 8;

function messageOf(
  code: number,
  functionName: string,
  explanation: string,
  attempts: readonly AttemptRecord[],
): string {
  const evidence = attempts
    .slice(-TOLD_ATTEMPTS)
    .map(
      ({ member, function: name, outcome, duration }) =>
        `${member} ${name}: ${outcome} after ${duration.toFixed(1)} ms`,
    );
  const tail = evidence.length === 0 ? '' : ` (${evidence.join('; ')})`;
  const where = functionName === '' ? '' : ` in ${functionName}`;
  return `${codeName(code)}${where}${explanation === '' ? '' : `: ${explanation}`}${tail}`;
}

/** Error of work that was refused. The call that asked for the work adds its function name (see `withFunctionName`). */
class Refusal extends TokenError {
  constructor(
    code: number,
    readonly explanation: string,
  ) {
    super(code, '', explanation);
  }
}

/** Throws a refusal with a CKR code and its explanation. */
export function refuse(code: number, explanation: string): never {
  throw new Refusal(code, explanation);
}

/** Runs the task of a call. Its refusals become TokenErrors that carry the call's name. */
export function* withFunctionName<T>(name: string, task: Task<T>): Task<T> {
  try {
    return yield* task;
  } catch (error) {
    throw error instanceof Refusal ? new TokenError(error.code, name, error.explanation) : error;
  }
}
