import { readFileSync } from 'node:fs';
import type { GroupConfig, GroupConfigInput } from '../../core/configuration/configuration.js';
import { ConfigurationError, checkConfiguration, parseConfiguration } from '../../core/configuration/validation.js';

/** Configuration, or path of its YAML file. */
export type ConfigurationSource = string | GroupConfigInput;

/** Reads and checks a configuration, without starting anything. Throws ConfigurationError. */
export function readConfiguration(source: ConfigurationSource): GroupConfig {
  if (typeof source !== 'string') return checkConfiguration(source);
  let text: string;
  try {
    text = readFileSync(source, 'utf8');
  } catch (error) {
    throw new ConfigurationError(source, [`cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`]);
  }
  return parseConfiguration(text, source);
}
