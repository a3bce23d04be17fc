import type { ExitCode } from './exit-code.js';
import { UsageError } from './failure.js';
import type { Shell } from './shell.js';

/** Option of a command, in commander's notation: `--wipe`, `--label <text>`. */
export interface OptionSpec {
  readonly flags: string;
  readonly description: string;
  readonly choices?: readonly string[];
  /** True if the option may be repeated; its values are then a list. */
  readonly isRepeated?: boolean;
}

/** Command: the source of `--help`, shell completion and docs/commands.md, and the function that runs it. */
export interface CommandSpec {
  /** Name with its group of commands and its arguments: `member add <name>`. */
  readonly usage: string;
  readonly summary: string;
  readonly description?: string;
  /** Descriptions of the arguments, in their order. */
  readonly arguments?: readonly string[];
  readonly options?: readonly OptionSpec[];
  readonly examples: readonly string[];
  /** Shape of the `--json` output. */
  readonly shape: string;
  readonly run: (
    shell: Shell,
    args: readonly (string | undefined)[],
    options: Readonly<Record<string, unknown>>,
  ) => Promise<ExitCode>;
}

/** Returns the CKA_ID that `--id` gives in hexadecimal; undefined without the option. */
export function idOf(options: Readonly<Record<string, unknown>>): Buffer | undefined {
  const id = textOf(options, 'id');
  if (id === undefined) return undefined;
  if (!/^([0-9a-f]{2})+$/iu.test(id))
    throw new UsageError(`--id: ${id} is not hexadecimal`, 'give pairs of hexadecimal digits, such as 0a1f');
  return Buffer.from(id, 'hex');
}

/** Returns an option's text; undefined if the option was not given. */
export function textOf(options: Readonly<Record<string, unknown>>, name: string): string | undefined {
  const value = options[name];
  return typeof value === 'string' ? value : undefined;
}
