import type { GroupConfig } from '../../core/configuration/configuration.js';
import type { ReadingLimits } from '../secrets/pin-source.js';

/** Options for opening a group. */
export interface OpeningOptions extends ReadingLimits {
  /** Path of the configuration file, which is then watched. */
  readonly path?: string | undefined;
  /** Environment variables that hosts do not get, besides the PIN's. */
  readonly hidden?: readonly string[];
  /** Member whose PIN an operator wants tried, also if its token has refused it before; or `all`. */
  readonly triesAgain?: string | undefined;
  /** True to take every group record as one of a group without an administration key, so that it can be signed. */
  readonly trustsAll?: boolean;
}

/** Returns the environment variables that hosts do not get: those with secrets of the configuration, and others. */
export function hiddenVariables({ pin, administration }: GroupConfig, others: readonly string[]): readonly string[] {
  return [...others, ...[pin?.env, administration?.key?.env].flatMap((name) => name ?? [])];
}
