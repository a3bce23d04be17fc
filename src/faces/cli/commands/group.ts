import { existsSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parse } from 'yaml';
import type { FormationReport } from '../../../core/administration/create-group.js';
import { recordOf } from '../../../core/administration/membership.js';
import { TokenError } from '../../../core/base/error.js';
import type { GroupConfigInput, PinReference } from '../../../core/configuration/configuration.js';
import { parseConfiguration } from '../../../core/configuration/validation.js';
import { createGroup, deleteGroup } from '../../../runtime/groups/create-group.js';
import { type ConfigurationSource, readConfiguration } from '../../../runtime/groups/open-group.js';
import { CKR } from '../../../spec/codes.js';
import { mechanismName } from '../../../spec/constants.js';
import { type CommandSpec, textOf } from '../command.js';
import { findConfigurations, HERE, namedConfiguration } from '../configuration/configuration-path.js';
import { writeConfiguration } from '../configuration/configuration-text.js';
import { type PreparedFile, prepareFile } from '../configuration/prepared-file.js';
import { EXIT } from '../exit-code.js';
import { asked, Declined, explain, UsageError } from '../failure.js';
import type { Shell } from '../shell.js';
import { type Output, printable } from '../terminal/output.js';
import { askForToken, pinOptions, pinReferenceOf, tokenOptions } from '../token-options.js';

const EVERYBODY = 0o644;
const OWNER = 0o600;

type Options = Readonly<Record<string, unknown>>;
type Existing = 'copy' | 'remove' | undefined;

/** A new group: its configuration, and the files that are made of it when the group is formed. */
interface Plan {
  readonly source: ConfigurationSource;
  readonly files: readonly PreparedFile[];
}

/** What the file is called where none is named. */
function pathOf(shell: Shell, given: string | undefined): string {
  return resolve(given ?? namedConfiguration(shell.settings.config) ?? HERE);
}

/** Asks for what the options leave open. */
async function plan(shell: Shell, path: string, options: Options): Promise<Plan> {
  const { questions } = shell;
  const label = textOf(options, 'label') ?? (await questions.text('Label of the group', '--label'));
  const place = await askForToken(shell, options);
  const name =
    textOf(options, 'member') ??
    (questions.canAsk ? await questions.text('Name of this member', '--member', 'hsm1') : 'hsm1');
  const files: PreparedFile[] = [];
  try {
    const pin = pinReferenceOf(options) ?? (await newPinFile(shell, path, files));
    const text = writeConfiguration({ label, pin, members: [{ name, ...place, standby: false }] });
    asked(() => parseConfiguration(text, path));
    files.push(prepareFile(path, text, EVERYBODY));
    return { source: parse(text) as GroupConfigInput, files };
  } catch (error) {
    for (const file of files) file.drop();
    throw error;
  }
}

/** The PIN that was typed, in a file that only its owner reads. */
async function newPinFile(shell: Shell, path: string, files: PreparedFile[]): Promise<PinReference> {
  const pin = await shell.questions.newSecret('PIN of the tokens', '--pin-file, --pin-env or --pin-command');
  const file = join(dirname(path), `${path.replace(/^.*\//u, '').replace(/\.ya?ml$/u, '')}.pin`);
  if (existsSync(file)) throw new UsageError(`${file} is there already`, 'use it with --pin-file, or move it away');
  // The group cannot be formed without it; where it is not formed it goes again.
  prepareFile(file, `${pin}\n`, OWNER).put();
  files.push({ path: file, aside: file, put: () => {}, drop: () => rmSync(file, { force: true }) });
  return { file };
}

/** What the guide asks too: adopt the group that the partitions belong to, or start over. */
async function askExisting(shell: Shell, error: TokenError): Promise<Exclude<Existing, undefined>> {
  const { output, questions } = shell;
  if (!questions.canAsk)
    throw new UsageError(error.message, 'give --existing copy to adopt that group, or --existing remove to start over');
  output.line(`\n${printable(error.message)}\n`);
  const answer = await questions.select('What to do with the group that is there', '--existing', [
    { label: 'copy', hint: 'adopt that group as it is, for another application host', value: 'copy' },
    {
      label: 'remove',
      hint: 'take its records and keys away and start over; keys it has sealed are lost',
      value: 'remove',
    },
    { label: 'nothing', hint: 'leave all as it is', value: 'nothing' },
  ]);
  if (answer === 'nothing') throw new Declined();
  return answer === 'copy' ? 'copy' : 'remove';
}

async function form(shell: Shell, source: ConfigurationSource, existing: Existing): Promise<FormationReport> {
  if (existing === 'remove')
    await shell.questions.confirm(
      'Take the records and keys of the group that is there off all its tokens, for good? Keys it has sealed are lost.',
    );
  try {
    return await createGroup(source, { ...(existing === undefined ? {} : { existing }), signal: shell.signal });
  } catch (error) {
    const isTaken = error instanceof TokenError && error.code === CKR.actionProhibited && existing === undefined;
    if (!isTaken || !/existing:/u.test(error.message)) throw error;
    return await form(shell, source, await askExisting(shell, error));
  }
}

function show(output: Output, path: string, { label, id, members, wrap, travels, adopted }: FormationReport): void {
  output.line(
    `${printable(label)} ${adopted ? 'was adopted' : 'is formed'} (group ${id}); its configuration is ${path}`,
  );
  output.line();
  output.table(
    ['member', 'serial'],
    members.map(({ name, serial }) => [name, serial]),
  );
  if (adopted) return;
  output.line(`\nKeys travel by ${wrap}, as round trips have shown:`);
  output.table(['key', 'travels'], Object.entries(travels));
}

const create: CommandSpec = {
  usage: 'group create [file]',
  summary: 'form a group, and write its configuration',
  description:
    'With a configuration that is there, the group is formed of its members. Otherwise what is not said is asked for, and the ' +
    'configuration is written: the first member; others come with `member add`. A PIN that is typed goes to a file beside it ' +
    'that only its owner can read. A PIN is never an argument.',
  arguments: ['the configuration; ./pkcs11-ha.yaml where none is named'],
  options: [
    { flags: '--label <text>', description: "the group's label" },
    { flags: '--member <name>', description: 'what the group shall call its first member (hsm1)' },
    ...tokenOptions,
    ...pinOptions,
    {
      flags: '--existing <what>',
      description: 'with tokens that belong to a group: adopt that (copy), or start over (remove)',
      choices: ['copy', 'remove'],
    },
  ],
  examples: [
    'pkcs11-ha group create',
    'pkcs11-ha group create otp.yaml --label otp --module /usr/lib/libCryptoki2_64.so --serial 65003001 --pin-file /etc/otp.pin',
    'pkcs11-ha group create otp.yaml --existing copy',
  ],
  shape:
    '{ id, label, members: [{ name, serial }], wrap, travels: { keyType: "wrapped" | "for each member" | "not" }, adopted, path }',
  run: async (shell, [given], options) => {
    const path = pathOf(shell, given);
    const existing = options.existing as Existing;
    const isThere = existsSync(path);
    const [unused] = Object.keys(options).filter((name) => name !== 'existing');
    if (isThere && unused !== undefined)
      throw new UsageError(
        `${path} is there already: --${unused.replaceAll(/[A-Z]/gu, (each) => `-${each.toLowerCase()}`)} would say nothing`,
        'name another file, or leave the options out to form the group of that file',
      );
    const planned: Plan = isThere ? { source: await shell.source(path), files: [] } : await plan(shell, path, options);
    let isFormed = false;
    try {
      const report = await form(shell, planned.source, existing);
      isFormed = true;
      planned.files.at(-1)?.put();
      shell.output.give({ ...report, path }, () => show(shell.output, path, report));
      return EXIT.good;
    } finally {
      if (!isFormed) for (const file of planned.files) file.drop();
    }
  },
};

const list: CommandSpec = {
  usage: 'group list',
  summary: 'list the groups that have a configuration on this machine',
  description: 'Looks in the usual places, and at --config. No token is asked.',
  examples: ['pkcs11-ha group list'],
  shape: '{ groups: [{ path, label, members: [name], problem }] }',
  run: async (shell) => {
    const groups = findConfigurations(shell.settings.config).map((path) => {
      try {
        const { label, members } = readConfiguration(path);
        return { path, label, members: members.map(({ name }) => name), problem: null };
      } catch (error) {
        return { path, label: null, members: [], problem: explain(error).message };
      }
    });
    const { output } = shell;
    output.give({ groups }, () =>
      output.table(
        ['group', 'members', 'configuration', 'problem'],
        groups.map(({ path, label, members, problem }) => [label ?? '?', members.join(', '), path, problem ?? '']),
      ),
    );
    return groups.some(({ problem }) => problem !== null) ? EXIT.failed : EXIT.good;
  },
};

const showGroup: CommandSpec = {
  usage: 'group show',
  summary: "tell what the group's record on the tokens says",
  examples: ['pkcs11-ha group show'],
  shape: '{ id, label, revision, wrap, domain, members: [{ name, serial, drained, filling }] }',
  run: (shell) =>
    shell.withGroup(async (open) => {
      const { group } = open;
      const record = recordOf(group);
      const { id, label, revision, wrap, domain, drained = [], filling = [] } = record;
      const members = record.members.map(({ name, serial }) => ({
        name,
        serial,
        drained: drained.includes(serial),
        filling: filling.includes(serial),
      }));
      const { output } = shell;
      const shown = { id, label, revision, wrap: mechanismName(wrap), domain: domain.id, members };
      output.give(shown, () => {
        output.line(`${printable(label)}: group ${id}, revision ${revision} of its record`);
        output.line(`keys travel by ${shown.wrap} under domain key ${shown.domain}`);
        output.line();
        output.table(
          ['member', 'serial', 'note'],
          members.map((member) => [
            member.name,
            member.serial,
            [member.drained ? 'drained' : '', member.filling ? 'has not got all keys yet' : '']
              .filter(Boolean)
              .join(', '),
          ]),
        );
      });
      return shell.codeOf(open);
    }),
};

const remove: CommandSpec = {
  usage: 'group delete',
  summary: "take the group's own records and keys off all members",
  description:
    'The objects of applications stay where they are, and so does the configuration file. All members have to be there. ' +
    'Keys that were sealed stay on the tokens that have them, and can go to no other one any more.',
  examples: ['pkcs11-ha group delete', 'pkcs11-ha group delete --yes'],
  shape: '{ removed: { member: count } }',
  run: async (shell) => {
    const config = shell.configuration();
    const names = config.members.map(({ name }) => name).join(', ');
    await shell.questions.confirm(
      `Delete the group ${printable(config.label)} of ${names}? Keys it has sealed can go to no other token then.`,
    );
    const removed = await deleteGroup(await shell.source(), { signal: shell.signal });
    const { output } = shell;
    output.give({ removed }, () =>
      output.table(
        ['member', 'removed'],
        Object.entries(removed).map(([name, count]) => [name, String(count)]),
      ),
    );
    return EXIT.good;
  },
};

export const groupCommands: readonly CommandSpec[] = [create, list, showGroup, remove];
