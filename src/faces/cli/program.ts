import { createRequire } from 'node:module';
import { Command, Option } from 'commander';
import type { CommandSpec } from './command.js';
import { completionsOf } from './commands/completion.js';
import { EXIT, type ExitCode } from './exit-code.js';
import { type Settings, Shell } from './shell.js';

const { version } = createRequire(import.meta.url)('#package') as { version: string };

const groupSummaries: Readonly<Record<string, string>> = {
  group: 'create, show and delete groups',
  member: 'add, remove, drain and reserve members',
  pin: 'change the user PIN of all members',
  key: 'generate, destroy and test keys',
};

const exitCodes = `Exit codes: 0 good, 1 failed, 2 wrong usage, 3 degraded (the group works, but a member is away or out of step),
130 interrupted.`;

/** Makes the program of all commands; calls `ended` with the exit code of the command that ran. */
export function makeProgram(
  specs: readonly CommandSpec[],
  signal: AbortSignal,
  ended: (code: ExitCode) => void,
): Command {
  const program = new Command('pkcs11-ha')
    .description('The operator’s tool of pkcs11-ha: one virtual PKCS#11 slot over many HSM partitions.')
    .version(version)
    .option(
      '--config <file>',
      "the group's configuration (default: PKCS11_HA_CONFIG, ./pkcs11-ha.yaml, or the only file in ~/.config/pkcs11-ha or /etc/pkcs11-ha)",
    )
    .option('--json', 'print one JSON value, for programs')
    .option('--yes', 'do not ask for confirmation')
    .configureHelp({ showGlobalOptions: true, helpWidth: 100 })
    .addHelpText('after', `\n${exitCodes}`);
  for (const spec of specs) addCommand(program, spec, signal, ended);
  // Serves the scripts that `completion` prints.
  program
    .command('complete', { hidden: true })
    .argument('[words...]')
    .action((words: readonly string[]) => {
      process.stdout.write(
        completionsOf(program, words)
          .map((each) => `${each}\n`)
          .join(''),
      );
      ended(EXIT.good);
    });
  return program;
}

function addCommand(program: Command, spec: CommandSpec, signal: AbortSignal, ended: (code: ExitCode) => void): void {
  const words = spec.usage.split(' ');
  const path = words.filter((word) => !/[<[]/u.test(word));
  const parent = path.length > 1 ? groupOf(program, path[0] ?? '') : program;
  const command = parent.command(path.at(-1) ?? '').summary(spec.summary);
  command.description(
    spec.description === undefined ? sentence(spec.summary) : `${sentence(spec.summary)}\n\n${spec.description}`,
  );
  for (const [index, word] of words.slice(path.length).entries()) command.argument(word, spec.arguments?.[index] ?? '');
  for (const { flags, description, choices, isRepeated } of spec.options ?? []) {
    const option = new Option(flags, description);
    if (isRepeated === true) option.argParser((value: string, before: readonly string[] = []) => [...before, value]);
    command.addOption(choices === undefined ? option : option.choices([...choices]));
  }
  command.addHelpText('after', `\nExamples:\n${spec.examples.map((example) => `  $ ${example}`).join('\n')}`);
  command.action(async (...given: unknown[]) => {
    const args = given.slice(0, words.length - path.length) as (string | undefined)[];
    const shell = new Shell(program.opts<Settings>(), signal);
    ended(await spec.run(shell, args, command.opts()));
  });
}

function groupOf(program: Command, name: string): Command {
  const known = program.commands.find((command) => command.name() === name);
  return (
    known ??
    program
      .command(name)
      .summary(groupSummaries[name] ?? '')
      .description(sentence(groupSummaries[name] ?? ''))
  );
}

function sentence(summary: string): string {
  return `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`;
}
