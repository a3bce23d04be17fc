import { addMember } from '../../../core/administration/add-member.js';
import { setDrained } from '../../../core/administration/drain.js';
import { removeMember } from '../../../core/administration/remove-member.js';
import type { GroupConfig } from '../../../core/configuration/configuration.js';
import { checkMember } from '../../../core/configuration/validation.js';
import { undrainMember } from '../../../runtime/groups/create-group.js';
import { type CommandSpec, textOf } from '../command.js';
import { ConfigurationDocument } from '../configuration/configuration-document.js';
import { EXIT, type ExitCode } from '../exit-code.js';
import { checkInput, Failure, UsageError } from '../failure.js';
import { type Shell, WORK_WITHIN } from '../shell.js';
import { askForToken, tokenOptions } from '../token-options.js';

function checkKnown({ members }: GroupConfig, name: string): void {
  if (members.every((member) => member.name !== name)) throw memberNotFound({ members }, name);
}

function memberNotFound({ members }: Pick<GroupConfig, 'members'>, name: string): Failure {
  const names = members.map((each) => each.name).join(', ');
  return new Failure(`no member ${name}`, `the members in the configuration are ${names}`);
}

function printResult(shell: Shell, value: Readonly<Record<string, unknown>>, text: string): ExitCode {
  shell.output.give(value, () => shell.output.line(text));
  return EXIT.good;
}

const add: CommandSpec = {
  usage: 'member add <name>',
  summary: 'make a token a member: the token gets all keys, then serves',
  description:
    'Asks for what the options omit, and lists the tokens to choose from. Adds the member to the configuration file once the ' +
    'token has all keys; open applications read it from there. Also adds a member that the file names, but that is not in the group yet.',
  arguments: ['name of the new member'],
  options: [
    ...tokenOptions,
    { flags: '--weight <number>', description: 'share of the calls, relative to the other members' },
    { flags: '--standby', description: 'serve only when no active member is left' },
    {
      flags: '--existing <what>',
      description: "remove another group's records and keys, and ALL objects, from the token first",
      choices: ['remove'],
    },
  ],
  examples: [
    'pkcs11-ha member add hsm2',
    'pkcs11-ha member add hsm2 --module /usr/lib/libCryptoki2_64.so --serial 65005001',
  ],
  shape: '{ added: name, serial, path }',
  run: async (shell, [name = ''], options) => {
    const config = shell.configuration();
    const existing = options.existing === 'remove' ? 'remove' : undefined;
    const document = new ConfigurationDocument(shell.path);
    const configured = config.members.find((each) => each.name === name);
    const [unused] = Object.keys(options).filter((each) => each !== 'existing');
    if (configured !== undefined && unused !== undefined)
      throw new UsageError(
        `${shell.path} names a member ${name} already`,
        'choose another name, or omit the options to add the member as configured there',
      );
    const entry = configured === undefined ? await askForMember(shell, name, options, config) : undefined;
    const member = configured ?? checkInput(() => checkMember(entry));
    if (existing === 'remove')
      await shell.questions.confirm(
        `Remove ALL objects from the token of ${name}, including those of applications, for good?`,
      );
    if (entry !== undefined) document.addMember(entry);
    const file = entry === undefined ? undefined : document.prepare();
    try {
      const serial = await shell.withGroup(async (open) => {
        const { group } = open;
        const serialOf = (): string | undefined => group.members.find((each) => each.name === name)?.serial;
        try {
          await shell.administer(open, 'addMember', (each, deadline) =>
            addMember(each, member, { existing }, deadline),
          );
        } finally {
          // Writes the file even if the new member does not serve yet: applications have to know the member.
          if (group.ledger.isMember(serialOf() ?? '')) file?.put();
        }
        return serialOf();
      });
      return printResult(
        shell,
        { added: name, serial, path: shell.path },
        `${name} (serial ${serial}) is now a member; ${shell.path} names it.`,
      );
    } finally {
      file?.drop();
    }
  },
};

/** Makes a new member's entry for the configuration; asks for what the options omit. */
async function askForMember(
  shell: Shell,
  name: string,
  options: Readonly<Record<string, unknown>>,
  group: GroupConfig,
): Promise<Readonly<Record<string, unknown>>> {
  const { module, token, env } = await askForToken(shell, options, group);
  const weight = textOf(options, 'weight');
  return {
    name,
    module,
    token,
    ...(Object.keys(env).length === 0 ? {} : { env }),
    ...(weight === undefined ? {} : { weight: Number(weight) }),
    ...(options.standby === true ? { standby: true } : {}),
  };
}

const remove: CommandSpec = {
  usage: 'member remove <name>',
  summary: 'remove a member from the group for good',
  description:
    "The other members get a new domain key. The group's records and keys are removed from the token if it can be reached. " +
    'The objects of applications stay on the token, unless --wipe is given.',
  arguments: ['name of the member'],
  options: [{ flags: '--wipe', description: "remove the applications' objects from the token too" }],
  examples: ['pkcs11-ha member remove hsm2', 'pkcs11-ha member remove hsm2 --wipe --yes'],
  shape: '{ member, cleaned, removed, reason, path }',
  run: async (shell, [name = ''], options) => {
    const wipe = options.wipe === true;
    const document = new ConfigurationDocument(shell.path);
    // Removes a member that only the group's record names, too.
    const isConfigured = document.hasMember(name);
    if (isConfigured) document.removeMember(name);
    await shell.questions.confirm(
      wipe
        ? `Remove ${name} from the group, and ALL objects from its token, for good?`
        : `Remove ${name} from the group, for good?`,
    );
    const file = isConfigured ? document.prepare() : undefined;
    try {
      const report = await shell.withGroup((open) => {
        const { ledger } = open.group;
        if (!isConfigured && ledger.record?.members.every((note) => note.name !== name) !== false)
          throw memberNotFound(shell.configuration(), name);
        return shell.administer(open, 'removeMember', (group, deadline) =>
          removeMember(group, name, { wipe }, deadline),
        );
      });
      file?.put();
      const rest = report.cleaned
        ? `${report.removed} objects were removed from its token`
        : `its token was left unchanged: ${report.reason}`;
      printResult(shell, { ...report, path: shell.path }, `${name} is no longer a member; ${rest}.`);
      return report.cleaned ? EXIT.good : EXIT.degraded;
    } finally {
      file?.drop();
    }
  },
};

const drain: CommandSpec = {
  usage: 'member drain <name>',
  summary: 'take a member out of service, after its running calls',
  description: 'Holds for all applications, until `undrain`. The last serving member cannot be drained.',
  arguments: ['name of the member'],
  examples: ['pkcs11-ha member drain hsm2'],
  shape: '{ drained: name }',
  run: async (shell, [name = '']) => {
    checkKnown(shell.configuration(), name);
    await shell.withGroup((open) =>
      shell.administer(open, 'drain', (group, deadline) => setDrained(group, name, true, deadline)),
    );
    return printResult(shell, { drained: name }, `${name} is drained.`);
  },
};

const undrain: CommandSpec = {
  usage: 'member undrain <name>',
  summary: 'make a drained member catch up and serve again',
  arguments: ['name of the member'],
  examples: ['pkcs11-ha member undrain hsm2'],
  shape: '{ undrained: name }',
  run: async (shell, [name = '']) => {
    checkKnown(shell.configuration(), name);
    // Works even if no other member serves.
    await undrainMember(await shell.source(), name, { deadline: WORK_WITHIN, signal: shell.signal });
    return printResult(shell, { undrained: name }, `${name} serves again.`);
  },
};

const standby: CommandSpec = {
  usage: 'member standby <name>',
  summary: 'keep a member in reserve, or make it serve like the others',
  description: 'Changes the configuration file; open applications apply the change.',
  arguments: ['name of the member'],
  options: [{ flags: '--off', description: 'make the member serve like the others' }],
  examples: ['pkcs11-ha member standby hsm3', 'pkcs11-ha member standby hsm3 --off'],
  shape: '{ name, standby, path }',
  run: async (shell, [name = ''], options) => {
    const config = shell.configuration();
    checkKnown(config, name);
    const isReserve = options.off !== true;
    if (isReserve && config.members.every((each) => each.name === name || each.standby))
      throw new Failure(
        `${name} is the last member that is not in reserve`,
        'first make another member serve: `pkcs11-ha member standby NAME --off`',
      );
    const document = new ConfigurationDocument(shell.path);
    document.setOfMember(name, 'standby', isReserve);
    document.prepare().put();
    const text = isReserve ? `${name} is now in reserve.` : `${name} now serves like the others.`;
    return printResult(shell, { name, standby: isReserve, path: shell.path }, text);
  },
};

export const memberCommands: readonly CommandSpec[] = [add, remove, drain, undrain, standby];
