import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { UsageError } from '../failure.js';

/** Name of the configuration file in the working directory. */
export const HERE = 'pkcs11-ha.yaml';

/** Lists the folders that hold one configuration for each group. */
function configurationFolders(): readonly string[] {
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

/** Returns the configuration that `--config` or PKCS11_HA_CONFIG names; undefined without either. */
export function namedConfiguration(given: string | undefined): string | undefined {
  return given ?? (process.env.PKCS11_HA_CONFIG || undefined);
}

/** Lists all configurations in the usual places, and the named one. */
export function findConfigurations(given: string | undefined): readonly string[] {
  const named = namedConfiguration(given);
  const here = existsSync(HERE) ? [resolve(HERE)] : [];
  const all = [...(named === undefined ? [] : [resolve(named)]), ...here, ...configurationFolders().flatMap(filesIn)];
  return [...new Set(all)];
}

/**
 * Finds the configuration to use: that of `--config`, of PKCS11_HA_CONFIG, pkcs11-ha.yaml in the working directory, or
 * the only file in ~/.config/pkcs11-ha or /etc/pkcs11-ha.
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
      throw new UsageError(
        `${folder} has ${files.length} groups: ${files.join(', ')}`,
        'choose one with --config FILE',
      );
  }
  throw new UsageError(
    'no configuration found',
    'give --config FILE, set PKCS11_HA_CONFIG, or make a configuration with `pkcs11-ha group create`',
  );
}
