import { existsSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parse } from 'yaml';
import type { FormationReport } from '../../../core/administration/create-group.js';
import { TokenError } from '../../../core/base/error.js';
import type { GroupConfigInput, PinReference } from '../../../core/configuration/configuration.js';
import { parseConfiguration } from '../../../core/configuration/validation.js';
import { type ConfigurationSource, readConfiguration } from '../../../runtime/groups/configuration-source.js';
import { createGroup, deleteGroup } from '../../../runtime/groups/create-group.js';
import { CKR } from '../../../spec/codes.js';
import { type CommandSpec, textOf } from '../command.js';
import {
  administrationKeyPath,
  setUpAdministration,
  takeAdministrationKey,
  withAdministration,
} from '../configuration/administration-setup.js';
import { findConfigurations, HERE, namedConfiguration } from '../configuration/configuration-path.js';
import { writeConfiguration } from '../configuration/configuration-text.js';
import { type PreparedFile, prepareFile } from '../configuration/prepared-file.js';
import { EXIT } from '../exit-code.js';
import { checkInput, Declined, explain, UsageError } from '../failure.js';
import type { Shell } from '../shell.js';
import { type Output, printable } from '../terminal/output.js';
import { askForToken, pinOptions, pinReferenceOf, tokenOptions } from '../token-options.js';
import { keyCommand } from './group-key.js';
import { rekeyCommand } from './group-rekey.js';
import { showCommand } from './group-show.js';
import { signCommand } from './group-sign.js';
import { upgrade } from './group-upgrade.js';

/** Mode of the configuration file: others may read it. */
const READABLE = 0o644;
/** Mode of the PIN file: only its owner may read it. */
const PRIVATE = 0o600;

type Options = Readonly<Record<string, unknown>>;
type Existing = 'copy' | 'remove' | undefined;

/** Plan of a new group: its configuration, and the files to put in place once the group is created. */
interface Plan {
  readonly source: ConfigurationSource;
  readonly files: readonly PreparedFile[];
}

/** Returns the path of the configuration file, or its default. */
function pathOf(shell: Shell, given: string | undefined): string {
  return resolve(given ?? namedConfiguration(shell.settings.config) ?? HERE);
}

/** Plans a new group, and asks for what the options omit. */
async function plan(shell: Shell, path: string, options: Options): Promise<Plan> {
  const { questions } = shell;
  const label = textOf(options, 'label') ?? (await questions.text('Label of the group', '--label'));
  const location = await askForToken(shell, options);
  const name =
    textOf(options, 'member') ??
    (questions.canAsk ? await questions.text('Name of this member', '--member', 'hsm1') : 'hsm1');
  const files: PreparedFile[] = [];
  try {
    const pin = pinReferenceOf(options) ?? (await newPinFile(shell, path, files));
    const { administration, file } = takeAdministrationKey(administrationKeyPath(path));
    files.push(file);
    const text = writeConfiguration({ label, pin, administration, members: [{ name, ...location, standby: false }] });
    checkInput(() => parseConfiguration(text, path));
    files.push(prepareFile(path, text, READABLE));
    return { source: parse(text) as GroupConfigInput, files };
  } catch (error) {
    for (const file of files) file.drop();
    throw error;
  }
}

/** Plans the group of an existing configuration, which gets an administration key if it names none. */
async function planExisting(shell: Shell, path: string, existing: Existing): Promise<Plan> {
  const source = await shell.source(path);
  if (readConfiguration(source).administration !== undefined || existing === 'copy') return { source, files: [] };
  const { administration, files, lines } = setUpAdministration(path);
  if (lines.length > 0) shell.output.warnWith('add these lines to every configuration of the group:', lines);
  return { source: withAdministration(source, administration), files };
}

/** Asks for the PIN and writes it to a file that only its owner can read. */
async function newPinFile(shell: Shell, path: string, files: PreparedFile[]): Promise<PinReference> {
  const pin = await shell.questions.newSecret('PIN of the tokens', '--pin-file, --pin-env or --pin-command');
  const file = join(dirname(path), `${path.replace(/^.*\//u, '').replace(/\.ya?ml$/u, '')}.pin`);
  if (existsSync(file)) throw new UsageError(`${file} exists already`, 'use it with --pin-file, or move it away');
  // Puts the file in place now, because creating the group reads it; removes it again if that fails.
  prepareFile(file, `${pin}\n`, PRIVATE).put();
  files.push({ path: file, aside: file, put: () => {}, drop: () => rmSync(file, { force: true }) });
  return { file };
}

/** Asks whether to adopt the group that the partitions belong to, or to start over. */
async function askExisting(shell: Shell, error: TokenError): Promise<Exclude<Existing, undefined>> {
  const { output, questions } = shell;
  if (!questions.canAsk)
    throw new UsageError(
      error.message,
      'pass --existing copy to adopt that group, or --existing remove to delete it and start over',
    );
  output.line(`\n${printable(error.message)}\n`);
  const answer = await questions.select('Existing group on the tokens', '--existing', [
    { label: 'copy', hint: 'adopt that group as it is, for another application host', value: 'copy' },
    {
      label: 'remove',
      hint: 'remove its records and keys and start over; keys that it has sealed are lost',
      value: 'remove',
    },
    { label: 'nothing', hint: 'change nothing', value: 'nothing' },
  ]);
  if (answer === 'nothing') throw new Declined();
  return answer === 'copy' ? 'copy' : 'remove';
}

async function createOrAsk(shell: Shell, source: ConfigurationSource, existing: Existing): Promise<FormationReport> {
  if (existing === 'remove')
    await shell.questions.confirm(
      'Remove the records and keys of the existing group from its tokens, for good? Keys that it has sealed are lost.',
    );
  try {
    return await createGroup(source, { ...(existing === undefined ? {} : { existing }), signal: shell.signal });
  } catch (error) {
    const isTaken = error instanceof TokenError && error.code === CKR.actionProhibited && existing === undefined;
    if (!isTaken || !/existing:/u.test(error.message)) throw error;
    return await createOrAsk(shell, source, await askExisting(shell, error));
  }
}

function show(output: Output, path: string, { label, id, members, wrap, travels, adopted }: FormationReport): void {
  output.line(
    `Group ${printable(label)} was ${adopted ? 'adopted' : 'created'} (id ${id}); its configuration is ${path}`,
  );
  if (!adopted)
    output.line(
      'Keep a copy of its private administration key (administration.key): without it no member can be added.',
    );
  output.line();
  output.table(
    ['member', 'serial'],
    members.map(({ name, serial }) => [name, serial]),
  );
  if (adopted) return;
  output.line(`\nRound trips show how keys travel, wrapped with ${wrap}:`);
  output.table(['key', 'travels'], Object.entries(travels));
}

const create: CommandSpec = {
  usage: 'group create [file]',
  summary: 'create a group, and write its configuration',
  description:
    'If the configuration file exists, the command creates the group of its members. Otherwise the command asks for what the ' +
    'options omit, and writes a configuration with the first member; add others with `member add`. A typed PIN goes to a file ' +
    'beside the configuration that only its owner can read. A PIN is never an argument.',
  arguments: ['the configuration file (default: ./pkcs11-ha.yaml)'],
  options: [
    { flags: '--label <text>', description: 'label of the group' },
    { flags: '--member <name>', description: 'name of the first member (default: hsm1)' },
    ...tokenOptions,
    ...pinOptions,
    {
      flags: '--existing <what>',
      description: 'for tokens that belong to a group: adopt that group (copy), or delete it and start over (remove)',
      choices: ['copy', 'remove'],
    },
  ],
  examples: [
    'pkcs11-ha group create',
    'pkcs11-ha group create otp.yaml --label otp --module /usr/lib/libCryptoki2_64.so --serial 65003001 --pin-file /etc/otp.pin',
    'pkcs11-ha group create otp.yaml --existing copy',
  ],
  shape:
    '{ id, label, members: [{ name, serial }], wrap, travels: { keyType: "wrapped" | "for each member" | "not" }, adopted, administrationKey, path }',
  run: async (shell, [given], options) => {
    const path = pathOf(shell, given);
    const existing = options.existing as Existing;
    const exists = existsSync(path);
    const [unused] = Object.keys(options).filter((name) => name !== 'existing');
    if (exists && unused !== undefined)
      throw new UsageError(
        `${path} exists already: --${unused.replaceAll(/[A-Z]/gu, (each) => `-${each.toLowerCase()}`)} would have no effect`,
        'name another file, or omit the options to create the group of that file',
      );
    const planned = exists ? await planExisting(shell, path, existing) : await plan(shell, path, options);
    let isCreated = false;
    try {
      const report = await createOrAsk(shell, planned.source, existing);
      isCreated = true;
      for (const file of planned.files) file.put();
      shell.output.give({ ...report, path }, () => show(shell.output, path, report));
      return EXIT.good;
    } finally {
      if (!isCreated) for (const file of planned.files) file.drop();
    }
  },
};

const list: CommandSpec = {
  usage: 'group list',
  summary: 'list the groups that have a configuration on this machine',
  description: 'Looks in the usual places, and at --config. Accesses no token.',
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

const remove: CommandSpec = {
  usage: 'group delete',
  summary: "remove the group's own records and keys from all members",
  description:
    'The objects of applications and the configuration file stay. All members must be reachable. ' +
    'Sealed keys stay on the tokens that have them, and can no longer be copied to other tokens.',
  examples: ['pkcs11-ha group delete', 'pkcs11-ha group delete --yes'],
  shape: '{ removed: { member: count } }',
  run: async (shell) => {
    const config = shell.configuration();
    const names = config.members.map(({ name }) => name).join(', ');
    await shell.questions.confirm(
      `Delete the group ${printable(config.label)} of ${names}? Its sealed keys can then no longer be copied to other tokens.`,
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

export const groupCommands: readonly CommandSpec[] = [
  create,
  list,
  showCommand,
  keyCommand,
  signCommand,
  rekeyCommand,
  upgrade,
  remove,
];
