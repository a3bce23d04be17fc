import {
  awaitAll,
  checkNoneNewer,
  checkWhole,
  confirmGroup,
  createGroupOn,
  type Existing,
  type FormationReport,
} from '../../core/administration/create-group.js';
import { undrainAlone } from '../../core/administration/drain.js';
import { withFunctionName } from '../../core/base/error.js';
import type { Task } from '../../core/base/task.js';
import type { Group } from '../../core/group/group.js';
import { removeOwn } from '../../core/wrapping/removal.js';
import { checkNames, checkSignal, InputError, integerOf } from '../../spec/input.js';
import { checkAdministration } from '../trust/administration-keys.js';
import { type ConfigurationSource, readConfiguration } from './configuration-source.js';
import { OpenGroup } from './open-group.js';

/** Default deadline of these calls (ms). */
const FORM_WITHIN = 120_000;
/** Longest deadline that a caller may give (ms). */
const LONGEST_DEADLINE = 2 ** 31 - 1;

/** Checks the options of a call before anything is touched, and returns its budget (ms). Throws InputError. */
export function formationBudget(options: FormationOptions, more: readonly string[]): number {
  checkNames('options', options, ['deadline', 'signal', ...more]);
  const { deadline = FORM_WITHIN, signal, existing } = options;
  checkSignal('options.signal', signal);
  if (existing !== undefined && existing !== 'copy' && existing !== 'remove')
    throw new InputError('options.existing', "'copy' or 'remove'", existing);
  return integerOf('options.deadline', deadline, 1, LONGEST_DEADLINE);
}

export interface FormationOptions {
  /**
   * Treatment of partitions that already belong to a group: `copy` adopts that group as it is, for another application
   * host; `remove` removes its records and keys and starts over, which loses the keys that the group has sealed. If
   * omitted, such partitions are refused.
   */
  readonly existing?: Existing;
  /** Budget of the call (ms); 120,000 by default. */
  readonly deadline?: number;
  readonly signal?: AbortSignal;
}

/**
 * Creates a group of the configured members, all of which must be reachable. Checks that the members keep data objects,
 * finds out by round trips how keys travel between them, gives each member a transport key and all of them the domain
 * key, and writes the group record. Afterwards keys can be created on all members.
 *
 * The administration key signs the record (Rule 19): that of the configuration, whose private half must be there too.
 * Without `administration` a key is made and kept in this account's configuration folder.
 *
 * Rejects as `VirtualToken.open` does, and with CKR_ACTION_PROHIBITED for partitions that belong to a group,
 * CKR_DEVICE_REMOVED if a member is away, CKR_KEY_NOT_WRAPPABLE if keys cannot travel. A rejected call leaves nothing
 * behind.
 */
export async function createGroup(
  source: ConfigurationSource,
  options: FormationOptions = {},
): Promise<FormationReport> {
  const budget = formationBudget(options, ['existing']);
  const { administration } = readConfiguration(source);
  if (administration !== undefined && options.existing !== 'copy') await checkAdministration(administration);
  const formation = await withAllMembers('createGroup', source, budget, options.signal, (group, deadline) =>
    createGroupOn(group, options.existing, deadline),
  );
  return await withAllMembers('createGroup', source, budget, undefined, (group, deadline) =>
    confirmGroup(group, formation, deadline),
  );
}

/**
 * Removes the group's own records and keys from all members, and leaves the applications' objects in place. Keys that
 * cannot leave a token stay on the tokens that have them. Resolves with the number of objects removed, by member.
 *
 * Rejects with CKR_ACTION_PROHIBITED, and changes nothing, if the members belong to several groups or the group has
 * further members.
 */
export async function deleteGroup(
  source: ConfigurationSource,
  options: Omit<FormationOptions, 'existing'> = {},
): Promise<Readonly<Record<string, number>>> {
  const remove = function* (group: Group, deadline: number): Task<Record<string, number>> {
    yield* awaitAll(group, deadline);
    checkNoneNewer(group);
    checkWhole(group);
    const removed: Record<string, number> = {};
    const ids = group.members.flatMap(({ connection }) => connection?.records?.group?.record.id ?? []);
    for (const member of group.members) removed[member.name] = yield* removeOwn(group, member, deadline);
    for (const id of ids) group.port.authority.discard(id);
    return removed;
  };
  return await withAllMembers('deleteGroup', source, formationBudget(options, []), options.signal, remove);
}

/**
 * Makes a drained member serve again if no member serves, so that no application can open the group. If a member
 * serves, `undrain` of an open group does the same. Rejects as `undrain` does.
 */
export async function undrainMember(
  source: ConfigurationSource,
  name: string,
  options: Omit<FormationOptions, 'existing'> = {},
): Promise<void> {
  const config = readConfiguration(source);
  const budget = formationBudget(options, []);
  const { signal } = options;
  signal?.throwIfAborted();
  const open = await OpenGroup.open(config, { within: budget, signal });
  try {
    await open.run(withFunctionName('undrainMember', undrainAlone(open.group, name, open.now() + budget)), signal);
  } finally {
    await open.close();
  }
}

async function withAllMembers<T>(
  name: string,
  source: ConfigurationSource,
  budget: number,
  signal: AbortSignal | undefined,
  work: (group: Group, deadline: number) => Task<T>,
): Promise<T> {
  const config = readConfiguration(source);
  signal?.throwIfAborted();
  const open = await OpenGroup.open(config, { within: budget, signal });
  open.group.isBeingCreated = true;
  const until = open.now() + budget;
  try {
    await open.awaitService(until, signal);
    // Finishes what was begun, even if the caller aborts: half a group is unusable.
    return await open.run(withFunctionName(name, work(open.group, until)));
  } finally {
    await open.close();
  }
}
