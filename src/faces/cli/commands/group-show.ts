import { recordOf } from '../../../core/administration/membership.js';
import { mechanismName } from '../../../spec/constants.js';
import type { CommandSpec } from '../command.js';
import { printable } from '../terminal/output.js';

/** Line for a record that the administration key has not signed. */
export const NOT_SIGNED = 'not signed with an administration key that is known here: see `pkcs11-ha group sign`';

export const showCommand: CommandSpec = {
  usage: 'group show',
  summary: "show the group's record, as stored on the tokens",
  examples: ['pkcs11-ha group show'],
  shape: '{ id, label, revision, wrap, domain, administrationKey, members: [{ name, serial, drained, filling }] }',
  run: (shell) =>
    shell.withGroup(async (open) => {
      const { group } = open;
      const record = recordOf(group);
      const { id, label, revision, wrap, domain, signature, drained = [], filling = [] } = record;
      const administrationKey = group.ledger.isSigned ? signature?.key : undefined;
      const members = record.members.map(({ name, serial }) => ({
        name,
        serial,
        drained: drained.includes(serial),
        filling: filling.includes(serial),
      }));
      const { output } = shell;
      const shown = {
        id,
        label,
        revision,
        wrap: mechanismName(wrap),
        domain: domain.id,
        administrationKey: administrationKey ?? null,
        members,
      };
      output.give(shown, () => {
        output.line(`${printable(label)}: group ${id}, record revision ${revision}`);
        output.line(
          administrationKey === undefined ? NOT_SIGNED : `signed with the administration key ${administrationKey}`,
        );
        output.line(`keys travel wrapped with ${shown.wrap} under domain key ${shown.domain}`);
        output.line();
        output.table(
          ['member', 'serial', 'note'],
          members.map((member) => [
            member.name,
            member.serial,
            [member.drained ? 'drained' : '', member.filling ? 'does not have all keys yet' : '']
              .filter(Boolean)
              .join(', '),
          ]),
        );
      });
      return shell.codeOf(open);
    }),
};
