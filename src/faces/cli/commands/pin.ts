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
      `the new PIN is in ${prepared?.aside}: put it in its place`,
    );
  }
}

/** What is left for the operator to do with the place that the PIN comes from. */
function adviceOn(reference: PinReference | undefined): string {
  if (reference?.env !== undefined) return `Set ${reference.env} to the new PIN where applications are started.`;
  if (reference?.command !== undefined) return 'Have the command of `pin` print the new PIN.';
  return '';
}

const change: CommandSpec = {
  usage: 'pin change',
  summary: 'give all members one new user PIN',
  description:
    'On all members or on none. Where the configuration’s PIN comes from a file, that gets the new one; otherwise it is told what ' +
    'to change. Applications that are open go on, and read the PIN anew when they need it. The PIN is typed twice, or comes ' +
    'from one of the places below; it is never an argument.',
  options: [
    { flags: '--new-pin-env <name>', description: 'the new PIN is in this environment variable' },
    { flags: '--new-pin-file <path>', description: 'the new PIN is the first line of this file' },
    { flags: '--new-pin-command <line>', description: 'the new PIN is the first line that this prints' },
    {
      flags: '--pending',
      description: 'members that are away get it when they return; otherwise all have to be there',
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
          // From here on it is not given up: who does not know which PIN the tokens have is locked out.
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
        if (report.pending.length > 0) output.line(`${report.pending.join(', ')} get it when they return.`);
        output.line(file === undefined ? adviceOn(reference) : `${file} has the new one.`);
      });
      return report.pending.length > 0 ? EXIT.degraded : EXIT.good;
    } finally {
      pin.fill(0);
      // The only place that has the new PIN is not taken away.
      if (!isChanged) prepared?.drop();
    }
  },
};

export const pinCommands: readonly CommandSpec[] = [change];
