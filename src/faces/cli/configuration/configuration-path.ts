import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { UsageError } from '../failure.js';

/** In this folder. */
export const HERE = 'pkcs11-ha.yaml';

/** Folders with a configuration for each group. */
export function configurationFolders(): readonly string[] {
  const own = process.env.XDG_CONFIG_HOME ?? join(homedir(), '.config');
  return [join(own, 'pkcs11-ha'), '/etc/pkcs11-ha'];
}

function filesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder)
      .filter((name) => /\.ya?ml$/u.test(name))
      .sort()
      .map((name) => join(folder, name));
  } catch {
    return [];
  }
}

/** What `--config` or PKCS11_HA_CONFIG names. */
export function namedConfiguration(given: string | undefined): string | undefined {
  return given ?? (process.env.PKCS11_HA_CONFIG || undefined);
}

/** All configurations that there are in the usual places. */
export function findConfigurations(given: string | undefined): readonly string[] {
  const named = namedConfiguration(given);
  const here = existsSync(HERE) ? [resolve(HERE)] : [];
  const all = [...(named === undefined ? [] : [resolve(named)]), ...here, ...configurationFolders().flatMap(filesIn)];
  return [...new Set(all)];
}

/**
 * The configuration that is meant: that of `--config`, of PKCS11_HA_CONFIG, pkcs11-ha.yaml in this folder, or the only
 * one in ~/.config/pkcs11-ha or /etc/pkcs11-ha.
 */
export function findConfiguration(given: string | undefined): string {
  const named = namedConfiguration(given);
  if (named !== undefined) return resolve(named);
  if (existsSync(HERE)) return resolve(HERE);
  for (const folder of configurationFolders()) {
    const files = filesIn(folder);
    const [only] = files;
    if (only !== undefined && files.length === 1) return only;
    if (files.length > 1)
      throw new UsageError(`${folder} has ${files.length} groups: ${files.join(', ')}`, 'say which one: --config FILE');
  }
  throw new UsageError(
    'no configuration was found',
    'give --config FILE or set PKCS11_HA_CONFIG; `pkcs11-ha group create` makes one',
  );
}
