import { upgradeGroup } from '../../../core/administration/upgrade-group.js';
import type { CommandSpec } from '../command.js';

export const upgrade: CommandSpec = {
  usage: 'group upgrade',
  summary: "raise the group's records to the current format",
  description:
    'Every member must be in service. Afterwards earlier versions of pkcs11-ha can still use the keys, but change nothing; ' +
    'update all programs that use the group first. The command can be repeated after an interruption.',
  examples: ['pkcs11-ha group upgrade', 'pkcs11-ha group upgrade --yes'],
  shape: '{ from, to, rewritten: { member: count } }',
  run: (shell) =>
    shell.withGroup(async (open) => {
      await shell.questions.confirm(
        'Upgrade the records of the group? Programs with an earlier version of pkcs11-ha can then change no objects.',
      );
      const report = await shell.administer(open, 'upgrade', upgradeGroup);
      const { output } = shell;
      output.give(report, () => {
        output.line(`record format ${report.to} (before: ${report.from})`);
        output.table(
          ['member', 'records rewritten'],
          Object.entries(report.rewritten).map(([name, count]) => [name, String(count)]),
        );
      });
      return shell.codeOf(open);
    }),
};
