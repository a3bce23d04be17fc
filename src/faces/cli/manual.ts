import type { Command } from 'commander';
import { commands } from './commands.js';
import { makeProgram } from './program.js';

/** Returns the text that `--help` of a command prints. */
function helpOf(command: Command): string {
  let text = '';
  command.configureOutput({
    writeOut: (part) => {
      text += part;
    },
  });
  command.outputHelp();
  return text.trimEnd();
}

function commandAt(program: Command, path: readonly string[]): Command {
  let found = program;
  for (const word of path) {
    const next = found.commands.find((command) => command.name() === word);
    if (next === undefined) throw new Error(`no command ${path.join(' ')}`);
    found = next;
  }
  return found;
}

/** Makes docs/commands.md: each command's help, and the shape of its JSON output. */
export function makeManual(): string {
  const program = makeProgram(commands, new AbortController().signal, () => {});
  // Removes the options that all commands share; the manual lists them once.
  const globals = /\nGlobal Options:\n(?: {2}.*\n|\n(?= {2}))*/u;
  const sections = commands.map(({ usage, shape }) => {
    const path = usage.split(' ').filter((word) => !/[<[]/u.test(word));
    const help = `${helpOf(commandAt(program, path))}\n`.replace(globals, '');
    return `## pkcs11-ha ${path.join(' ')}\n\n\`\`\`text\n${help.trimEnd()}\n\`\`\`\n\nWith \`--json\`: \`${shape}\`.\n`;
  });
  return `# The operator's tool, command by command

Generated from \`--help\` by \`node scripts/write-manual.js\`. [From the LunaSA guide to pkcs11-ha](from-luna.md) shows the commands in use.

\`\`\`text
${helpOf(program)}
\`\`\`

An error is one line on the error stream, with advice on what to do; with \`--json\` the line is \`{ error: { message, advice, code } }\`. Ctrl-C ends a command in order: the command, or the next process
that opens the group, finishes or undoes the changes that were begun. A second Ctrl-C ends the command at once. A PIN is never an argument.

${sections.join('\n')}`;
}
