import { type SigningReport, signGroup as signRecord } from '../../core/administration/sign-group.js';
import { checkAdministration } from '../trust/administration-keys.js';
import { administer } from './administration.js';
import { type ConfigurationSource, readConfiguration } from './configuration-source.js';
import { type FormationOptions, formationBudget } from './create-group.js';
import { OpenGroup } from './open-group.js';

export interface SigningOptions extends Omit<FormationOptions, 'existing'> {
  /** Names of members that the record is no longer to name: those that nobody knows. */
  readonly without?: readonly string[];
  /** Digest of the record that was looked at: another one is not signed. If omitted, any record is. */
  readonly seen?: string | undefined;
}

/**
 * Signs the record of a group that an earlier version created, or whose administration key was lost, with the
 * configured key (Rule 19). Whoever calls this vouches for what the record states: look at its members first. Every
 * member must serve.
 */
export async function signGroup(source: ConfigurationSource, options: SigningOptions = {}): Promise<SigningReport> {
  const config = readConfiguration(source);
  const budget = formationBudget(options, ['without', 'seen']);
  const { without = [], seen, signal } = options;
  signal?.throwIfAborted();
  if (config.administration !== undefined) await checkAdministration(config.administration);
  const open = await OpenGroup.open(config, { within: budget, signal, trustsAll: true });
  try {
    await open.awaitService(open.now() + budget, signal);
    return await administer(
      open,
      'signGroup',
      (group, deadline) => signRecord(group, { without, seen }, deadline),
      budget,
      signal,
    );
  } finally {
    await open.close();
  }
}
