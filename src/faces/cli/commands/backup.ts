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
import { checkInput } from '../failure.js';
import { type Shell, WORK_WITHIN } from '../shell.js';
import { askForToken, hiddenBy, pinOptions, pinReferenceOf, tokenOptions } from '../token-options.js';

type Options = Readonly<Record<string, unknown>>;

async function backupTokenOf(shell: Shell, options: Options): Promise<BackupTokenConfig> {
  const token = await askForToken(shell, options, shell.configuration());
  const pin = pinReferenceOf(options);
  return checkInput(() => checkBackupToken({ ...token, ...(pin === undefined ? {} : { pin }) }, 'backup token'));
}

async function withBackup<T>(
  shell: Shell,
  name: string,
  token: BackupTokenConfig,
  work: (group: Group, at: BackupLocation, deadline: number) => Task<T>,
): Promise<T> {
  return await shell.withGroup((open) => administerWith(open, name, token, work, WORK_WITHIN, shell.signal), {
    hidden: hiddenBy(token.pin),
  });
}

const pinOfToken = pinOptions.map(({ flags, description }) => ({
  flags,
  description: description.replace('the PIN', "the backup token's PIN (default: the group's)"),
}));

const backup: CommandSpec = {
  usage: 'backup',
  summary: 'back up all objects of the group to a token that is not a member',
  description:
    'Keys are wrapped so that only the backup token can unwrap them. A complete backup replaces an older one of the group. ' +
    'Keys that cannot leave their tokens, and that have no sealed copy, are listed as not backed up.',
  options: [
    ...tokenOptions,
    ...pinOfToken,
    {
      flags: '--existing <what>',
      description: "remove another group's records or backup from the token first",
      choices: ['remove'],
    },
  ],
  examples: ['pkcs11-ha backup', 'pkcs11-ha backup --module /usr/lib/libCryptoki2_64.so --token-label backup'],
  shape: '{ objects, keys, left: [{ handle, label, id }] }',
  run: async (shell, _args, options) => {
    const token = await backupTokenOf(shell, options);
    const existing = options.existing === 'remove' ? 'remove' : undefined;
    if (existing === 'remove')
      await shell.questions.confirm("Remove another group's records or backup from the backup token, for good?");
    const report = await withBackup(shell, 'backup', token, (group, at, until) =>
      backUp(group, at, { existing }, until),
    );
    const { output } = shell;
    output.give(report, () => {
      output.line(`The backup holds ${report.objects} objects, ${report.keys} of them secret or private keys.`);
      if (report.left.length > 0) {
        output.line('These objects could not be backed up:');
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
  summary: 'restore a backup to all members, each object under its former handle',
  description:
    'Objects that exist already are left unchanged. Another key of the same name and handle is reported, not overwritten.',
  options: [...tokenOptions, ...pinOfToken],
  examples: ['pkcs11-ha restore', 'pkcs11-ha restore --module /usr/lib/libCryptoki2_64.so --token-label backup'],
  shape: '{ restored, present, failed: [{ object: { handle, label, id }, reason }] }',
  run: async (shell, _args, options) => {
    const token = await backupTokenOf(shell, options);
    const report = await withBackup(shell, 'restore', token, restoreBackup);
    const { output } = shell;
    output.give(report, () => {
      output.line(`${report.restored} objects were restored, ${report.present} existed already.`);
      if (report.failed.length > 0) {
        output.line('These objects could not be restored:');
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
