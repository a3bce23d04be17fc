import { TokenError } from './error.js';

/** Ends the forming of a group. */
export function fail(code: number, explanation: string): never {
  throw new TokenError(code, 'createGroup', explanation);
}
