import type { PinReference } from '../../../core/configuration/configuration.js';
import { changePin } from '../../../runtime/groups/administration.js';
import { fetchPinBytes, guardPin } from '../../../runtime/secrets/pin.js';
import type { CommandSpec } from '../command.js';
import { type PreparedFile, prepareFile } from '../configuration/prepared-file.js';
import { EXIT } from '../exit-code.js';
import { Failure } from '../failure.js';
import { WORK_WITHIN } from '../shell.js';
import { hiddenBy, pinReferenceOf } from '../token-options.js';

function putPin(prepared: PreparedFile | undefined, file: string | undefined): void {
  try {
    prepared?.put();
  } catch (error) {
    const { message } = error as Error;
    throw new Failure(
      `the PIN was changed on the tokens, but ${file} could not be replaced: ${message}`,
      `the new PIN is in ${prepared?.aside}; move that file to ${file}`,
    );
  }
}

/** Tells the operator how to update the source of the PIN. */
function adviceOn(reference: PinReference | undefined): string {
  if (reference?.env !== undefined)
    return `Now set ${reference.env} to the new PIN in the environment of the applications.`;
  if (reference?.command !== undefined) return 'Now make the command of `pin` print the new PIN.';
  return '';
}

const change: CommandSpec = {
  usage: 'pin change',
  summary: 'set one new user PIN on all members',
  description:
    'Changes the PIN on all members or on none. If the configured PIN comes from a file, the file gets the new PIN; otherwise the ' +
    'command tells what to change. Open applications go on, and read the PIN again when they need it. Type the PIN twice, or ' +
    'name its source with an option. A PIN is never an argument.',
  options: [
    { flags: '--new-pin-env <name>', description: 'the new PIN is in this environment variable' },
    { flags: '--new-pin-file <path>', description: 'the new PIN is the first line of this file' },
    { flags: '--new-pin-command <line>', description: 'the new PIN is the first line that this command prints' },
    {
      flags: '--pending',
      description: 'let members that are away get the new PIN when they return; otherwise all must be reachable',
    },
  ],
  examples: ['pkcs11-ha pin change', 'pkcs11-ha pin change --new-pin-file /run/secrets/new-pin --yes'],
  shape: '{ changed: [name], pending: [name], file }',
  run: async (shell, _args, options) => {
    const { pin: reference } = shell.configuration();
    const given = pinReferenceOf(options, 'newPin');
    const pin =
      given === undefined
        ? Buffer.from(await shell.questions.newSecret('New PIN', 'one of the --new-pin options'))
        : await fetchPinBytes(given);
    const file = reference?.file;
    const prepared = file === undefined ? undefined : prepareFile(file, Buffer.concat([pin, Buffer.from('\n')]), 0o600);
    let isChanged = false;
    try {
      const report = await shell.withGroup(
        async (open) => {
          shell.signal.throwIfAborted();
          // Ignores Ctrl-C from here on: an operator who does not know the tokens' PIN is locked out.
          const changed = await changePin(open, guardPin('new PIN', pin), options.pending === true, WORK_WITHIN);
          isChanged = true;
          putPin(prepared, file);
          return changed;
        },
        { hidden: hiddenBy(given) },
      );
      const { output } = shell;
      output.give({ ...report, file: file ?? null }, () => {
        output.line(`The PIN was changed on ${report.changed.join(', ')}.`);
        if (report.pending.length > 0)
          output.line(`These members get the new PIN when they return: ${report.pending.join(', ')}.`);
        output.line(file === undefined ? adviceOn(reference) : `${file} has the new PIN.`);
      });
      return report.pending.length > 0 ? EXIT.degraded : EXIT.good;
    } finally {
      pin.fill(0);
      // Keeps the file if the PIN was changed: no other place may have the new PIN.
      if (!isChanged) prepared?.drop();
    }
  },
};

export const pinCommands: readonly CommandSpec[] = [change];
