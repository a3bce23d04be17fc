import type { ExitCode } from './exit-code.js';
import { UsageError } from './failure.js';
import type { Shell } from './shell.js';

/** An option of a command, as commander writes it: `--wipe`, `--label <text>`. */
export interface OptionSpec {
  readonly flags: string;
  readonly description: string;
  readonly choices?: readonly string[];
  /** It may be given several times: its values are a list. */
  readonly isRepeated?: boolean;
}

/** A command: what `--help`, the shell's completion and docs/commands.md are made of, and what it does. */
export interface CommandSpec {
  /** With the group of commands before it, and its arguments: `member add <name>`. */
  readonly usage: string;
  readonly summary: string;
  readonly description?: string;
  /** What each argument is, in their order. */
  readonly arguments?: readonly string[];
  readonly options?: readonly OptionSpec[];
  readonly examples: readonly string[];
  /** What `--json` gives. */
  readonly shape: string;
  readonly run: (
    shell: Shell,
    args: readonly (string | undefined)[],
    options: Readonly<Record<string, unknown>>,
  ) => Promise<ExitCode>;
}

/** `--id`: a CKA_ID in hexadecimal, where it was given. */
export function idOf(options: Readonly<Record<string, unknown>>): Buffer | undefined {
  const id = textOf(options, 'id');
  if (id === undefined) return undefined;
  if (!/^([0-9a-f]{2})+$/iu.test(id)) throw new UsageError(`--id: ${id} is not hexadecimal`, 'write it as in 0a1f');
  return Buffer.from(id, 'hex');
}

/** An option's text, where it was given. */
export function textOf(options: Readonly<Record<string, unknown>>, name: string): string | undefined {
  const value = options[name];
  return typeof value === 'string' ? value : undefined;
}
