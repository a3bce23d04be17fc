import type { Command } from 'commander';
import { commands } from './commands.js';
import { makeProgram } from './program.js';

/** What `--help` of a command prints. */
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
    if (next === undefined) throw new Error(`there is no command ${path.join(' ')}`);
    found = next;
  }
  return found;
}

/** docs/commands.md: each command's help, and the shape of its JSON. */
export function makeManual(): string {
  const program = makeProgram(commands, new AbortController().signal, () => {});
  // The same for each command: said once.
  const globals = /\nGlobal Options:\n(?: {2}.*\n|\n(?= {2}))*/u;
  const sections = commands.map(({ usage, shape }) => {
    const path = usage.split(' ').filter((word) => !/[<[]/u.test(word));
    const help = `${helpOf(commandAt(program, path))}\n`.replace(globals, '');
    return `## pkcs11-ha ${path.join(' ')}\n\n\`\`\`text\n${help.trimEnd()}\n\`\`\`\n\nWith \`--json\`: \`${shape}\`.\n`;
  });
  return `# The operator's tool, command by command

Made from \`--help\` by \`node scripts/write-manual.js\`. [From the LunaSA guide to pkcs11-ha](from-luna.md) tells the whole story.

\`\`\`text
${helpOf(program)}
\`\`\`

Errors are one line on the error stream, with what to do; with \`--json\` one line \`{ error: { message, advice, code } }\`. Ctrl-C ends a command in order: what it has begun is undone or finished, by
itself or by whoever opens the group next; a second one ends it at once. A PIN is never an argument.

${sections.join('\n')}`;
}
