import { type Command, CommanderError } from 'commander';
import { commands } from './commands.js';
import { EXIT, type ExitCode } from './exit-code.js';
import { explain, Interrupted, UsageError } from './failure.js';
import { makeProgram } from './program.js';
import { printable } from './terminal/output.js';

/** Runs the command that a process was started with; gives the exit code. Errors go to the error stream, one line each. */
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
    return error instanceof CommanderError && error.exitCode === 0 ? EXIT.good : tell(process, error);
  }
  return exitCode;
}

function abortOnSignals(process: NodeJS.Process, interruption: AbortController): void {
  process.on('SIGINT', () => {
    // A second SIGINT ends the tool at once; the next process that opens the group finishes or undoes the change.
    if (interruption.signal.aborted) process.exit(EXIT.interrupted);
    interruption.abort(new Interrupted());
  });
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interruption.abort(new Interrupted()));
  // A reader that closes the pipe, as `head` does, has enough: the command ends in order and prints nothing more.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') interruption.abort(new Interrupted());
  });
}

/** Prints an error as one line on the error stream; with --json as one JSON value. */
function tell(process: NodeJS.Process, error: unknown): ExitCode {
  // A group of commands without a command has shown its help already.
  if (error instanceof CommanderError && error.code === 'commander.help') return EXIT.usage;
  const asked =
    error instanceof CommanderError
      ? new UsageError(error.message.replace(/^error: /u, ''), 'run `pkcs11-ha --help` to see the commands')
      : error;
  const { message, advice, code, exitCode } = explain(asked);
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
