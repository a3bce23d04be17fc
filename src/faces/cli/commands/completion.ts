import type { Command } from 'commander';
import type { CommandSpec } from '../command.js';
import { EXIT } from '../exit-code.js';
import { UsageError } from '../failure.js';

/** Lists the words that may come next in a command line: commands, then options. */
export function completionsOf(program: Command, words: readonly string[]): readonly string[] {
  const current = words.at(-1) ?? '';
  let command = program;
  for (const word of words.slice(0, -1)) {
    const next = command.commands.find((each) => each.name() === word);
    if (next !== undefined) command = next;
  }
  const options = [...command.options, ...(command === program ? [] : program.options)].flatMap(
    ({ long }) => long ?? [],
  );
  const names = command.commands.map((each) => each.name()).filter((name) => name !== 'complete');
  return [...names, ...(current.startsWith('-') || names.length === 0 ? [...options, '--help'] : [])]
    .filter((each) => each.startsWith(current))
    .sort();
}

const scripts: Readonly<Record<string, string>> = {
  bash: `_pkcs11_ha() {
  local IFS=$'\\n'
  COMPREPLY=($(pkcs11-ha complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  [ \${#COMPREPLY[@]} -gt 0 ] || compopt -o default
}
complete -F _pkcs11_ha pkcs11-ha
`,
  zsh: `#compdef pkcs11-ha
_pkcs11_ha() {
  local -a found
  found=(\${(f)"$(pkcs11-ha complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)"})
  if (( \${#found} )); then compadd -a found; else _files; fi
}
compdef _pkcs11_ha pkcs11-ha
`,
  fish: `complete -c pkcs11-ha -f -a '(pkcs11-ha complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
`,
};

export const completion: CommandSpec = {
  usage: 'completion <shell>',
  summary: 'print a script with which a shell completes commands and options',
  arguments: ['bash, zsh or fish'],
  examples: ['source <(pkcs11-ha completion bash)', 'pkcs11-ha completion zsh > ~/.zfunc/_pkcs11-ha'],
  shape: 'no JSON: a script',
  run: async (_shell, [name = '']) => {
    const script = Object.hasOwn(scripts, name) ? scripts[name] : undefined;
    if (script === undefined) throw new UsageError(`no completion for ${name}`, 'choose bash, zsh or fish');
    process.stdout.write(script);
    return EXIT.good;
  },
};
