import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { parse } from 'yaml';
import type { GroupConfigInput } from '../../../core/configuration/configuration.js';
import { parseConfiguration } from '../../../core/configuration/validation.js';
import { generateAdministrationKey, SigningKey } from '../../../runtime/trust/administration-key.js';
import { KeyStore } from '../../../runtime/trust/key-store.js';
import { UsageError } from '../failure.js';
import { administrationLines } from './configuration-text.js';
import { type PreparedFile, prepareFile } from './prepared-file.js';

/** Mode of the file with the private key: only its owner may read it. */
const PRIVATE = 0o600;
/** Mode of a new configuration file: others may read it. */
const READABLE = 0o644;

/** Codes of a folder that this process cannot write, such as that of a ConfigMap. */
const UNWRITABLE: readonly string[] = ['EACCES', 'EPERM', 'EROFS'];

/** New administration key: the settings that name it, and the file that holds its private half. */
export interface NewAdministrationKey {
  readonly administration: NonNullable<GroupConfigInput['administration']> & { readonly publicKey: string };
  /** File with the private half, which is there already; `drop` removes it. */
  readonly file: PreparedFile;
}

/** Makes an administration key at a path, or where only that of a group whose configuration cannot be written may be. */
export function makeAdministrationKey(path: string): NewAdministrationKey {
  const { publicKey, privateKey } = generateAdministrationKey();
  if (existsSync(path))
    throw new UsageError(
      `${path} exists already`,
      'name it under `administration` in the configuration, or move it away',
    );
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  prepareFile(path, `${privateKey}\n`, PRIVATE).put();
  const drop = (): void => rmSync(path, { force: true });
  return { administration: { publicKey, key: { file: path } }, file: { path, aside: path, put: () => {}, drop } };
}

/** Takes the administration key that is at a path already, as after a loss of the group, or makes one there. */
export function takeAdministrationKey(path: string): NewAdministrationKey {
  if (!existsSync(path)) return makeAdministrationKey(path);
  const { publicKey } = new SigningKey(Buffer.from(readFileSync(path, 'latin1').trim()));
  const file = { path, aside: path, put: (): void => {}, drop: (): void => {} };
  return { administration: { publicKey, key: { file: path } }, file };
}

/** Returns the path of the administration key of a configuration: beside it. */
export function administrationKeyPath(configuration: string): string {
  return join(dirname(configuration), `${basename(configuration).replace(/\.ya?ml$/u, '')}.administration-key`);
}

/** Administration key for a group whose configuration exists and names none. */
export interface AdministrationSetup {
  readonly administration: NewAdministrationKey['administration'];
  /** Files to put in place once the key is in use, or to drop. */
  readonly files: readonly PreparedFile[];
  /** Lines that the operator has to add to the configuration, since this process cannot; empty if it can. */
  readonly lines: readonly string[];
}

/** Makes an administration key for a configuration that names none, and adds it there if the file can be written. */
export function setUpAdministration(path: string): AdministrationSetup {
  let made: NewAdministrationKey;
  try {
    made = takeAdministrationKey(administrationKeyPath(path));
  } catch (error) {
    if (!UNWRITABLE.includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    made = takeAdministrationKey(join(new KeyStore().folder, `${basename(path)}.key`));
  }
  const lines = administrationLines(made.administration);
  const text = `${readFileSync(path, 'utf8').replace(/\n*$/u, '\n\n')}${lines.join('\n')}\n`;
  try {
    parseConfiguration(text, path);
    return { administration: made.administration, files: [made.file, prepareFile(path, text, READABLE)], lines: [] };
  } catch {
    // The file is in another style, or on a file system that cannot be written.
    return { administration: made.administration, files: [made.file], lines };
  }
}

/** Returns a configuration with another administration key. */
export function withAdministration(
  source: string | GroupConfigInput,
  administration: NewAdministrationKey['administration'],
): GroupConfigInput {
  const input = typeof source === 'string' ? (parse(readFileSync(source, 'utf8')) as GroupConfigInput) : source;
  return { ...input, administration };
}
