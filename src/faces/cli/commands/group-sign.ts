import { createHash } from 'node:crypto';
import { recordOf } from '../../../core/administration/membership.js';
import { digestOfStatement, type SigningReport } from '../../../core/administration/sign-group.js';
import type { GroupRecord } from '../../../core/records/record.js';
import { readConfiguration } from '../../../runtime/groups/configuration-source.js';
import { signGroup } from '../../../runtime/groups/sign-group.js';
import type { CommandSpec } from '../command.js';
import { setUpAdministration, withAdministration } from '../configuration/administration-setup.js';
import { EXIT } from '../exit-code.js';
import { UsageError } from '../failure.js';
import type { Shell } from '../shell.js';
import { printable } from '../terminal/output.js';

/** Length of the shown part of a transport key's digest (characters). */
const SHOWN = 32;

function digestOf(modulus: string): string {
  return createHash('sha256').update(Buffer.from(modulus, 'hex')).digest('hex').slice(0, SHOWN);
}

function showRecord(shell: Shell, record: GroupRecord): void {
  const { output } = shell;
  const { id, label, revision, members, domain, signature, pending = {} } = record;
  output.line(`${printable(label)}: group ${id}, record revision ${revision}`);
  output.line(signature === undefined ? 'nobody has signed it' : `signed with ${signature.key}`);
  output.line(`domain key ${domain.id}, kept in wrapped form for ${Object.keys(pending).length} members`);
  output.line();
  output.table(
    ['member', 'serial', 'transport key'],
    members.map(({ name, serial, modulus }) => [printable(name), printable(serial), digestOf(modulus)]),
  );
  output.line();
}

function report(shell: Shell, { publicKey, members, leftOut }: SigningReport, lines: readonly string[]): void {
  const { output } = shell;
  const names = members.map(({ name }) => printable(name)).join(', ');
  output.give({ publicKey, members, leftOut, lines }, () => {
    output.line(`The record of ${names} is signed with ${publicKey}; every configuration of the group needs that key.`);
    if (leftOut.length > 0)
      output.line(`The domain key was wrapped for ${leftOut.join(', ')} too: renew it with \`pkcs11-ha group rekey\`.`);
  });
}

export const signCommand: CommandSpec = {
  usage: 'group sign',
  summary: "sign the group's record with the administration key",
  description:
    'For a group that an earlier version created, or whose administration key was lost. Shows the record and asks: whoever signs ' +
    'it vouches for its members. Every member must serve, and proves that its token holds its transport key. Without ' +
    '`administration` in the configuration the command makes a key, and adds it there.',
  options: [{ flags: '--without <names...>', description: 'members that the record is no longer to name' }],
  examples: ['pkcs11-ha group sign', 'pkcs11-ha group sign --without stranger'],
  shape: '{ publicKey, members: [{ name, serial }], leftOut: [name], lines: [text] }',
  run: async (shell, _arguments, options) => {
    const { path, output } = shell;
    const { administration } = readConfiguration(path);
    if (administration !== undefined && administration.key === undefined)
      throw new UsageError(
        `${path} does not say where the private administration key is`,
        'run the command where administration.key is, or add it',
      );
    const without = (options.without ?? []) as readonly string[];
    const seen = await shell.withHosts(
      await shell.completeConfiguration(),
      async (open) => {
        await shell.awaitService(open);
        const record = recordOf(open.group);
        if (!output.isJson) showRecord(shell, record);
        return digestOfStatement(open.group, record);
      },
      { trustsAll: true },
    );
    await shell.questions.confirm('Sign this record? Keys are then wrapped for every member that it names.');
    const setup = administration === undefined ? setUpAdministration(path) : { files: [], lines: [] };
    let isSigned = false;
    try {
      if (setup.lines.length > 0) output.warnWith('add these lines to every configuration of the group:', setup.lines);
      const source = await shell.source(path);
      const complete = 'administration' in setup ? withAdministration(source, setup.administration) : source;
      const signed = await signGroup(complete, { without, seen, signal: shell.signal });
      isSigned = true;
      for (const file of setup.files) file.put();
      report(shell, signed, setup.lines);
      return EXIT.good;
    } finally {
      if (!isSigned) for (const file of setup.files) file.drop();
    }
  },
};
