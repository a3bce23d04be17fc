import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { PinReference } from '../../../core/configuration/configuration.js';
import { parseConfiguration } from '../../../core/configuration/validation.js';
import { type CommandSpec, textOf } from '../command.js';
import { type ChrystokiGroup, type ChrystokiSections, groupsIn, readChrystoki } from '../configuration/chrystoki.js';
import { writeConfiguration } from '../configuration/configuration-text.js';
import { type PreparedFile, prepareFile } from '../configuration/prepared-file.js';
import { EXIT } from '../exit-code.js';
import { Failure } from '../failure.js';
import { pinOptions, pinReferenceOf } from '../token-options.js';

/** Mode of the configuration files: others may read them. */
const READABLE = 0o644;
/** Path of the library of Luna's client for Linux, if the file names none. */
const USUAL_LIBRARY = '/usr/safenet/lunaclient/lib/libCryptoki2_64.so';
/** Longest serial of a token (bytes). */
const LONGEST_SERIAL = 16;

/** Converts an HA group to a configuration; comments tell of settings without a counterpart. */
function convertGroup(sections: ChrystokiSections, group: ChrystokiGroup, pin: PinReference | undefined): string {
  const ha = sections.get('HAConfiguration') ?? new Map<string, string>();
  const library = sections.get('Chrystoki2');
  const module = library?.get('LibUNIX64') ?? library?.get('LibUNIX') ?? USUAL_LIBRARY;
  const remarks = ['Converted from a Luna client’s configuration.'];
  if (group.isSynchronized === false)
    remarks.push('HASynchronize was 0: here every key is on all members before a call returns.');
  const attempts = ha.get('reconnAtt');
  if (attempts !== undefined && Number(attempts) > 0)
    remarks.push(`reconnAtt was ${attempts}: here a member that is away is tried without limit.`);
  if (ha.get('HAOnly') === '0')
    remarks.push('HAOnly was 0: `slots: all` shows the members’ own slots too, through pkcs11js’s API.');
  const folder = ha.get('haLogPath');
  const isLogged = ha.get('haLogStatus') === 'enabled' && folder !== undefined;
  const size = Number(ha.get('logLen'));
  return writeConfiguration({
    remarks,
    label: group.label,
    ...(group.serial === undefined || group.serial.length > LONGEST_SERIAL ? {} : { serial: group.serial }),
    ...(pin === undefined ? {} : { pin }),
    members: group.members.map((serial, index) => ({
      name: `hsm${index + 1}`,
      module,
      token: { serial },
      env: {},
      standby: group.standby.has(serial),
    })),
    ...(isLogged
      ? {
          log: {
            file: join(folder, 'pkcs11-ha.log'),
            ...(size >= 1024 ? { maxSize: `${Math.floor(size / 1024)}KiB` } : {}),
          },
        }
      : {}),
    ...(attempts === '0' ? { policy: { recovery: 'manual' } } : {}),
  });
}

export const importChrystoki: CommandSpec = {
  usage: 'import-chrystoki <file>',
  summary: "convert the HA groups of a Luna client's configuration",
  description:
    'Reads the sections VirtualToken, HASynchronize, HAConfiguration and Chrystoki2, and writes one file for each group, named by its label. ' +
    'Overwrites no file and accesses no token; afterwards create each group with `group create FILE`.',
  arguments: ['Chrystoki.conf, or crystoki.ini'],
  options: [
    { flags: '--output <folder>', description: 'folder for the files (default: the working directory)' },
    ...pinOptions,
  ],
  examples: ['pkcs11-ha import-chrystoki /etc/Chrystoki.conf --output /etc/pkcs11-ha --pin-file /etc/pkcs11-ha/pin'],
  shape: '{ groups: [{ label, members: [serial], path }] }',
  run: async (shell, [file = ''], options) => {
    const sections = readChrystoki(readFileSync(file, 'utf8'));
    const groups = groupsIn(sections);
    if (groups.length === 0)
      throw new Failure(
        `${file} has no HA group (section VirtualToken)`,
        'check that the file is the configuration of a Luna client',
      );
    const pin = pinReferenceOf(options);
    const prepared: PreparedFile[] = [];
    try {
      const written = groups.map((group) => {
        const path = resolve(textOf(options, 'output') ?? '.', `${group.label.replaceAll(/[^\w.-]/gu, '_')}.yaml`);
        if (prepared.some(({ path: other }) => other === path))
          throw new Failure(
            `two groups of ${file} would be written to ${path}`,
            'change the label of one group in that file',
          );
        if (existsSync(path)) throw new Failure(`${path} exists already`, 'move it away, or choose another --output');
        const text = convertGroup(sections, group, pin);
        parseConfiguration(text, path);
        prepared.push(prepareFile(path, text, READABLE));
        return { label: group.label, members: group.members, path };
      });
      for (const each of prepared) each.put();
      const { output } = shell;
      output.give({ groups: written }, () => {
        output.table(
          ['group', 'members', 'configuration'],
          written.map(({ label, members, path }) => [label, members.join(', '), path]),
        );
        output.line('\nNext: check `pin` in the file, then run `pkcs11-ha verify` and `pkcs11-ha group create FILE`.');
      });
      return EXIT.good;
    } finally {
      for (const each of prepared) each.drop();
    }
  },
};
