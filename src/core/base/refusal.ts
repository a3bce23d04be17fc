import { TokenError } from './error.js';
import type { Task } from './task.js';

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
