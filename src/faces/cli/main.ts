#!/usr/bin/env node
import { type Command, CommanderError } from 'commander';
import { commands } from './commands.js';
import { EXIT, type ExitCode } from './exit-code.js';
import { explain, Interrupted, UsageError } from './failure.js';
import { printable } from './output.js';
import { makeProgram } from './program.js';

/** Until a command has come to its end in order. */
let exitCode: ExitCode = EXIT.failed;

const interruption = new AbortController();
process.on('SIGINT', () => {
  // Who cannot wait: what is left half done is put in order by whoever opens the group next.
  if (interruption.signal.aborted) process.exit(EXIT.interrupted);
  interruption.abort(new Interrupted());
});
for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interruption.abort(new Interrupted()));
// Whoever reads has enough, as `head` does: the command ends in order, and says nothing more.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') interruption.abort(new Interrupted());
});

const program = makeProgram(commands, interruption.signal, (code) => {
  exitCode = code;
});
throwOnError(program);

try {
  await program.parseAsync();
} catch (error) {
  exitCode = error instanceof CommanderError && error.exitCode === 0 ? EXIT.good : tell(error);
}
process.exitCode = exitCode;

/** One line on the error stream; for programs one JSON value. */
function tell(error: unknown): ExitCode {
  // A group of commands without a command: its help was shown.
  if (error instanceof CommanderError && error.code === 'commander.help') return EXIT.usage;
  const asked =
    error instanceof CommanderError
      ? new UsageError(error.message.replace(/^error: /u, ''), '`pkcs11-ha --help` tells what there is')
      : error;
  const { message, advice, code, exitCode: ended } = explain(asked);
  const text = `pkcs11-ha: ${printable(message)}; ${printable(advice)}\n`;
  const isJson = process.argv.includes('--json');
  process.stderr.write(isJson ? `${JSON.stringify({ error: { message, advice, code } })}\n` : text);
  return ended;
}

function throwOnError(command: Command): void {
  command.exitOverride();
  command.configureOutput({ outputError: () => {} });
  for (const each of command.commands) throwOnError(each);
}
