import pkcs11js from '#pkcs11js';
import { codeName } from '../../spec/constants.js';
import type { AttemptRecord } from './event.js';
import type { Task } from './task.js';

/**
 * A call that failed: pkcs11js's own error class (the application's copy), so that `instanceof` and `.code`
 * work as everywhere in Node's PKCS#11 world, with the evidence. The message never holds a PIN, key or plaintext.
 */
export class TokenError extends pkcs11js.Pkcs11Error {
  /** The member that gave the code; undefined when it is the group's answer. */
  readonly member: string | undefined;
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

function messageOf(
  code: number,
  functionName: string,
  explanation: string,
  attempts: readonly AttemptRecord[],
): string {
  const evidence = attempts
    .slice(-8)
    .map(
      ({ member, function: name, outcome, duration }) =>
        `${member} ${name}: ${outcome} after ${duration.toFixed(1)} ms`,
    );
  const tail = evidence.length === 0 ? '' : ` (${evidence.join('; ')})`;
  const where = functionName === '' ? '' : ` in ${functionName}`;
  return `${codeName(code)}${where}${explanation === '' ? '' : `: ${explanation}`}${tail}`;
}

/** What is not done, and why; the call that asked for it puts its name to it. */
export class Refusal extends TokenError {
  constructor(
    code: number,
    readonly explanation: string,
  ) {
    super(code, '', explanation);
  }
}

export function refuse(code: number, explanation: string): never {
  throw new Refusal(code, explanation);
}

/** A call by its name: refusals say whose they are. */
export function* withFunctionName<T>(name: string, task: Task<T>): Task<T> {
  try {
    return yield* task;
  } catch (error) {
    throw error instanceof Refusal ? new TokenError(error.code, name, error.explanation) : error;
  }
}
