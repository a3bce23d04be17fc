import { addMember } from '../../../core/administration/add-member.js';
import { setDrained } from '../../../core/administration/duty.js';
import { removeMember } from '../../../core/administration/remove-member.js';
import type { GroupConfig } from '../../../core/configuration/configuration.js';
import { checkMember } from '../../../core/configuration/validation.js';
import { undrainMember } from '../../../runtime/groups/create-group.js';
import { type CommandSpec, textOf } from '../command.js';
import { ConfigurationDocument } from '../configuration/configuration-document.js';
import { EXIT, type ExitCode } from '../exit-code.js';
import { asked, Failure, UsageError } from '../failure.js';
import { type Shell, WORK_WITHIN } from '../shell.js';
import { askForToken, tokenOptions } from '../token-options.js';

function checkKnown({ members }: GroupConfig, name: string): void {
  if (members.every((member) => member.name !== name)) throw noMember({ members }, name);
}

function noMember({ members }: Pick<GroupConfig, 'members'>, name: string): Failure {
  const names = members.map((each) => each.name).join(', ');
  return new Failure(`there is no member ${name}`, `the configuration has ${names}`);
}

function tell(shell: Shell, value: Readonly<Record<string, unknown>>, text: string): ExitCode {
  shell.output.give(value, () => shell.output.line(text));
  return EXIT.good;
}

const add: CommandSpec = {
  usage: 'member add <name>',
  summary: 'make a token a member: it gets all keys, and serves',
  description:
    'Applications that have the group open take it up from the configuration file, which is changed when the token has all keys. ' +
    'What is not said is asked for, the token from a list. One that is in the file, but no member yet, is made one.',
  arguments: ['what the group shall call it'],
  options: [
    ...tokenOptions,
    { flags: '--weight <number>', description: 'its share of the work, in proportion to the others' },
    { flags: '--standby', description: 'it serves only when no active member is left' },
    {
      flags: '--existing <what>',
      description: 'empty the token first: of the records and keys of another group, and of all objects',
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
        `${name} is in ${shell.path} already, as it is configured there`,
        'choose another name, or leave the options out to make that one a member',
      );
    const entry = configured === undefined ? await askForMember(shell, name, options, config) : undefined;
    const member = configured ?? asked(() => checkMember(entry));
    if (existing === 'remove')
      await shell.questions.confirm(`Take ALL objects off the token of ${name}, those of applications too, for good?`);
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
          // Also where it has not come into service yet: applications have to know it.
          if (group.ledger.isMember(serialOf() ?? '')) file?.put();
        }
        return serialOf();
      });
      return tell(
        shell,
        { added: name, serial, path: shell.path },
        `${name} (serial ${serial}) is a member, and in ${shell.path}.`,
      );
    } finally {
      file?.drop();
    }
  },
};

/** A new member's entry in the configuration. */
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
  summary: 'take a member out of the group for good',
  description:
    "The others get a new domain key, and the group's records and keys are taken off the token where it can be reached. " +
    'The objects of applications stay on it, unless --wipe is given.',
  arguments: ['the member'],
  options: [{ flags: '--wipe', description: "take the applications' objects off the token too" }],
  examples: ['pkcs11-ha member remove hsm2', 'pkcs11-ha member remove hsm2 --wipe --yes'],
  shape: '{ member, cleaned, removed, reason, path }',
  run: async (shell, [name = ''], options) => {
    const wipe = options.wipe === true;
    const document = new ConfigurationDocument(shell.path);
    // One that is only in the group's record is taken out of that.
    const isConfigured = document.hasMember(name);
    if (isConfigured) document.removeMember(name);
    await shell.questions.confirm(
      wipe ? `Take ${name} out of the group, and all objects off its token?` : `Take ${name} out of the group?`,
    );
    const file = isConfigured ? document.prepare() : undefined;
    try {
      const report = await shell.withGroup((open) => {
        const { ledger } = open.group;
        if (!isConfigured && ledger.record?.members.every((note) => note.name !== name) !== false)
          throw noMember(shell.configuration(), name);
        return shell.administer(open, 'removeMember', (group, deadline) =>
          removeMember(group, name, { wipe }, deadline),
        );
      });
      file?.put();
      const rest = report.cleaned
        ? `${report.removed} objects were taken off its token`
        : `its token was left as it is: ${report.reason}`;
      tell(shell, { ...report, path: shell.path }, `${name} is no member any more; ${rest}.`);
      return report.cleaned ? EXIT.good : EXIT.degraded;
    } finally {
      file?.drop();
    }
  },
};

const drain: CommandSpec = {
  usage: 'member drain <name>',
  summary: 'take a member out of service: it finishes what is running',
  description: 'For all applications, until `undrain`. The last member that serves cannot be drained.',
  arguments: ['the member'],
  examples: ['pkcs11-ha member drain hsm2'],
  shape: '{ drained: name }',
  run: async (shell, [name = '']) => {
    checkKnown(shell.configuration(), name);
    await shell.withGroup((open) =>
      shell.administer(open, 'drain', (group, deadline) => setDrained(group, name, true, deadline)),
    );
    return tell(shell, { drained: name }, `${name} is drained.`);
  },
};

const undrain: CommandSpec = {
  usage: 'member undrain <name>',
  summary: 'have a drained member catch up and serve again',
  arguments: ['the member'],
  examples: ['pkcs11-ha member undrain hsm2'],
  shape: '{ undrained: name }',
  run: async (shell, [name = '']) => {
    checkKnown(shell.configuration(), name);
    // It works whether another member serves or not.
    await undrainMember(await shell.source(), name, { deadline: WORK_WITHIN, signal: shell.signal });
    return tell(shell, { undrained: name }, `${name} serves again.`);
  },
};

const standby: CommandSpec = {
  usage: 'member standby <name>',
  summary: 'have a member wait in reserve, or serve like the others',
  description: 'Changes the configuration file; applications that have the group open take it up.',
  arguments: ['the member'],
  options: [{ flags: '--off', description: 'have it serve like the others' }],
  examples: ['pkcs11-ha member standby hsm3', 'pkcs11-ha member standby hsm3 --off'],
  shape: '{ name, standby, path }',
  run: async (shell, [name = ''], options) => {
    const config = shell.configuration();
    checkKnown(config, name);
    const isReserve = options.off !== true;
    if (isReserve && config.members.every((each) => each.name === name || each.standby))
      throw new Failure(`${name} is the last member that is not in reserve`, 'have another one serve first: --off');
    const document = new ConfigurationDocument(shell.path);
    document.setOfMember(name, 'standby', isReserve);
    document.prepare().put();
    const text = isReserve ? `${name} waits in reserve from now on.` : `${name} serves like the others from now on.`;
    return tell(shell, { name, standby: isReserve, path: shell.path }, text);
  },
};

export const memberCommands: readonly CommandSpec[] = [add, remove, drain, undrain, standby];
