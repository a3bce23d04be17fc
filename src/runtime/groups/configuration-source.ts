import { readFileSync, statSync } from 'node:fs';
import type { GroupConfig, GroupConfigInput } from '../../core/configuration/configuration.js';
import { ConfigurationError, checkConfiguration, parseConfiguration } from '../../core/configuration/validation.js';
import { dangerOf } from '../secrets/file-privacy.js';

/** Configuration, or path of its YAML file. */
export type ConfigurationSource = string | GroupConfigInput;

/** Reads and checks a configuration, without starting anything. Throws ConfigurationError. */
export function readConfiguration(source: ConfigurationSource): GroupConfig {
  if (typeof source !== 'string') return checkConfiguration(source);
  let text: string;
  let danger: string | undefined;
  try {
    text = readFileSync(source, 'utf8');
    danger = dangerOf(source, statSync(source));
  } catch (error) {
    throw new ConfigurationError(source, [`cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`]);
  }
  // The configuration names libraries and programs that this process starts.
  if (danger !== undefined) throw new ConfigurationError(source, [danger]);
  return parseConfiguration(text, source);
}
