import { backUp } from '../../../core/backup/backup.js';
import type { BackupLocation } from '../../../core/backup/backup-token.js';
import { restoreBackup } from '../../../core/backup/restore.js';
import type { Task } from '../../../core/base/task.js';
import type { BackupTokenConfig } from '../../../core/configuration/configuration.js';
import { checkBackupToken } from '../../../core/configuration/validation.js';
import type { Group } from '../../../core/group/group.js';
import { administerWith } from '../../../runtime/groups/administration.js';
import type { CommandSpec } from '../command.js';
import { EXIT } from '../exit-code.js';
import { asked } from '../failure.js';
import { type Shell, WORK_WITHIN } from '../shell.js';
import { askForToken, hiddenBy, pinOptions, pinReferenceOf, tokenOptions } from '../token-options.js';

type Options = Readonly<Record<string, unknown>>;

async function placeOf(shell: Shell, options: Options): Promise<BackupTokenConfig> {
  const place = await askForToken(shell, options, shell.configuration());
  const pin = pinReferenceOf(options);
  return asked(() => checkBackupToken({ ...place, ...(pin === undefined ? {} : { pin }) }, 'backup token'));
}

async function withBackup<T>(
  shell: Shell,
  name: string,
  place: BackupTokenConfig,
  work: (group: Group, at: BackupLocation, deadline: number) => Task<T>,
): Promise<T> {
  return await shell.withGroup((open) => administerWith(open, name, place, work, WORK_WITHIN, shell.signal), {
    hidden: hiddenBy(place.pin),
  });
}

const pinOfToken = pinOptions.map(({ flags, description }) => ({
  flags,
  description: description.replace('the PIN', "the backup token's PIN, where it is not the group's,"),
}));

const backup: CommandSpec = {
  usage: 'backup',
  summary: 'put all that the group has on a token that is no member',
  description:
    'Keys are wrapped, so that only that token opens them. It takes the place of an older backup of the group when it is whole. ' +
    'Keys that cannot be taken out of a token, and of which no sealed form was kept, are listed.',
  options: [
    ...tokenOptions,
    ...pinOfToken,
    {
      flags: '--existing <what>',
      description: "take another group's records or backup off the token",
      choices: ['remove'],
    },
  ],
  examples: ['pkcs11-ha backup', 'pkcs11-ha backup --module /usr/lib/libCryptoki2_64.so --token-label backup'],
  shape: '{ objects, keys, left: [{ handle, label, id }] }',
  run: async (shell, _args, options) => {
    const place = await placeOf(shell, options);
    const existing = options.existing === 'remove' ? 'remove' : undefined;
    if (existing === 'remove')
      await shell.questions.confirm("Take another group's records or backup off the backup token, for good?");
    const report = await withBackup(shell, 'backup', place, (group, at, until) =>
      backUp(group, at, { existing }, until),
    );
    const { output } = shell;
    output.give(report, () => {
      output.line(`The backup holds ${report.objects} objects, ${report.keys} of them secret or private keys.`);
      if (report.left.length > 0) {
        output.line('These could not be taken along:');
        output.table(
          ['handle', 'label', 'id'],
          report.left.map(({ handle, label, id }) => [String(handle), label, id]),
        );
      }
    });
    return report.left.length > 0 ? EXIT.degraded : EXIT.good;
  },
};

const restore: CommandSpec = {
  usage: 'restore',
  summary: 'put what a backup holds on all members, under the handles that it had',
  description:
    'What is there is left alone; another key of the same name and handle is reported, and nothing is overwritten.',
  options: [...tokenOptions, ...pinOfToken],
  examples: ['pkcs11-ha restore', 'pkcs11-ha restore --module /usr/lib/libCryptoki2_64.so --token-label backup'],
  shape: '{ restored, present, failed: [{ object: { handle, label, id }, reason }] }',
  run: async (shell, _args, options) => {
    const place = await placeOf(shell, options);
    const report = await withBackup(shell, 'restore', place, restoreBackup);
    const { output } = shell;
    output.give(report, () => {
      output.line(`${report.restored} objects were restored, ${report.present} were there already.`);
      if (report.failed.length > 0) {
        output.line('These were not:');
        output.table(
          ['handle', 'label', 'id', 'why'],
          report.failed.map(({ object: { handle, label, id }, reason }) => [String(handle), label, id, reason]),
        );
      }
    });
    return report.failed.length > 0 ? EXIT.degraded : EXIT.good;
  },
};

export const backupCommands: readonly CommandSpec[] = [backup, restore];
