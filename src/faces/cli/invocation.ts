import { type Command, CommanderError } from 'commander';
import { commands } from './commands.js';
import { EXIT, type ExitCode } from './exit-code.js';
import { explain, Interrupted, UsageError } from './failure.js';
import { makeProgram } from './program.js';
import { printable } from './terminal/output.js';

/**
 * Runs the command that a process was started with, and returns the exit code. Prints an error as one line on stderr.
 */
export async function runTool(process: NodeJS.Process): Promise<ExitCode> {
  const interruption = new AbortController();
  abortOnSignals(process, interruption);
  let exitCode: ExitCode = EXIT.failed;
  const program = makeProgram(commands, interruption.signal, (code) => {
    exitCode = code;
  });
  throwOnError(program);
  try {
    await program.parseAsync(process.argv);
  } catch (error) {
    return error instanceof CommanderError && error.exitCode === 0 ? EXIT.good : reportError(process, error);
  }
  return exitCode;
}

function abortOnSignals(process: NodeJS.Process, interruption: AbortController): void {
  process.on('SIGINT', () => {
    // Ends the tool at once at a second SIGINT; the next process that opens the group finishes or undoes the change.
    if (interruption.signal.aborted) process.exit(EXIT.interrupted);
    interruption.abort(new Interrupted());
  });
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interruption.abort(new Interrupted()));
  // Ends the command in order if the reader closes the pipe, as `head` does.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') interruption.abort(new Interrupted());
  });
}

/** Prints an error as one line on the error stream; with --json as one JSON value. */
function reportError(process: NodeJS.Process, error: unknown): ExitCode {
  // Prints nothing more if commander has already shown the help of a group of commands.
  if (error instanceof CommanderError && error.code === 'commander.help') return EXIT.usage;
  const shown =
    error instanceof CommanderError
      ? new UsageError(error.message.replace(/^error: /u, ''), 'run `pkcs11-ha --help` to see the commands')
      : error;
  const { message, advice, code, exitCode } = explain(shown);
  const text = `pkcs11-ha: ${printable(message)}; ${printable(advice)}\n`;
  const isJson = process.argv.includes('--json');
  process.stderr.write(isJson ? `${JSON.stringify({ error: { message, advice, code } })}\n` : text);
  return exitCode;
}

function throwOnError(command: Command): void {
  command.exitOverride();
  command.configureOutput({ outputError: () => {} });
  for (const each of command.commands) throwOnError(each);
}
