import { rekeyGroup } from '../../../core/administration/rekey-group.js';
import type { CommandSpec } from '../command.js';

export const rekeyCommand: CommandSpec = {
  usage: 'group rekey',
  summary: 'give the group a new domain key, and sign its record anew',
  description:
    'After a compromise, or when the administration key changes. Every member must serve. For a new administration key: make it ' +
    'with `group key`, add its public half to `administration.publicKey` of every configuration, name its file in ' +
    '`administration.key` here, run this command, and remove the former public half everywhere. To renew the transport key of a ' +
    'member, remove that member and add it again.',
  examples: ['pkcs11-ha group rekey', 'pkcs11-ha group rekey --yes'],
  shape: '{ domain, publicKey }',
  run: (shell) =>
    shell.withGroup(async (open) => {
      await shell.questions.confirm('Give the group a new domain key, and seal all sealed keys under it?');
      const report = await shell.administer(open, 'rekey', rekeyGroup);
      shell.output.give(report, () =>
        shell.output.line(`The domain key is ${report.domain}; the record is signed with ${report.publicKey}.`),
      );
      return shell.codeOf(open);
    }),
};
