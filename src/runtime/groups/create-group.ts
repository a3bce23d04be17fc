import {
  awaitAll,
  checkNoneNewer,
  checkWhole,
  confirmGroup,
  createGroupOn,
  type Existing,
  type FormationReport,
} from '../../core/administration/create-group.js';
import { undrainAlone } from '../../core/administration/duty.js';
import { withFunctionName } from '../../core/base/error.js';
import type { Task } from '../../core/base/task.js';
import type { Group } from '../../core/group/group.js';
import { removeOwn } from '../../core/wrapping/removal.js';
import { integerOf } from '../../spec/input.js';
import { type ConfigurationSource, OpenGroup, readConfiguration } from './open-group.js';

const FORM_WITHIN = 120_000;
const LONGEST_DEADLINE = 2 ** 31 - 1;

export interface FormationOptions {
  /**
   * What to do with partitions that belong to a group already: `copy` adopts that group as it is, for another
   * application host; `remove` takes its records and keys away and starts over, so that keys it has sealed are
   * lost. Without it such partitions are refused.
   */
  readonly existing?: Existing;
  /** ms; 120,000 where none is given. */
  readonly deadline?: number;
  readonly signal?: AbortSignal;
}

/**
 * Forms a group of the configured members, all of which have to be there: checks that they keep data objects, finds
 * out by round trips how keys travel between them, gives each a transport key and all of them the domain key, and
 * writes the group record. From then on keys can be made on all members.
 *
 * Rejects as `VirtualToken.open` does, and with CKR_ACTION_PROHIBITED for partitions that belong to a group,
 * CKR_DEVICE_REMOVED when a member is away, CKR_KEY_NOT_WRAPPABLE when keys cannot travel. Nothing is left behind then.
 */
export async function createGroup(
  source: ConfigurationSource,
  options: FormationOptions = {},
): Promise<FormationReport> {
  const formation = await withAllMembers('createGroup', source, options, (group, deadline) =>
    createGroupOn(group, options.existing, deadline),
  );
  return await withAllMembers('createGroup', source, { deadline: options.deadline ?? FORM_WITHIN }, (group, deadline) =>
    confirmGroup(group, formation, deadline),
  );
}

/**
 * Takes the group's own records and keys off all members and leaves the applications' objects where they are. Keys
 * that cannot be taken out of a token stay on the tokens that have them. Gives the number of objects removed from each.
 *
 * Rejects with CKR_ACTION_PROHIBITED, and nothing done, where the members are of several groups or the group has others.
 */
export async function deleteGroup(
  source: ConfigurationSource,
  options: Omit<FormationOptions, 'existing'> = {},
): Promise<Readonly<Record<string, number>>> {
  return await withAllMembers('deleteGroup', source, options, function* (group, deadline): Task<
    Record<string, number>
  > {
    yield* awaitAll(group, deadline);
    checkNoneNewer(group);
    checkWhole(group);
    const removed: Record<string, number> = {};
    for (const member of group.members) removed[member.name] = yield* removeOwn(group, member, deadline);
    return removed;
  });
}

/**
 * Has a drained member serve again where none is left that serves, so that no application can open the group;
 * otherwise `undrain` of an open one does it. Rejects as that does.
 */
export async function undrainMember(
  source: ConfigurationSource,
  name: string,
  { deadline = FORM_WITHIN, signal }: Omit<FormationOptions, 'existing'> = {},
): Promise<void> {
  const config = readConfiguration(source);
  const budget = integerOf('options.deadline', deadline, 1, LONGEST_DEADLINE);
  signal?.throwIfAborted();
  const open = new OpenGroup(config);
  try {
    await open.run(withFunctionName('undrainMember', undrainAlone(open.group, name, open.now() + budget)), signal);
  } finally {
    await open.close();
  }
}

async function withAllMembers<T>(
  name: string,
  source: ConfigurationSource,
  { deadline = FORM_WITHIN, signal }: Omit<FormationOptions, 'existing'>,
  work: (group: Group, deadline: number) => Task<T>,
): Promise<T> {
  const config = readConfiguration(source);
  const budget = integerOf('options.deadline', deadline, 1, LONGEST_DEADLINE);
  signal?.throwIfAborted();
  const open = new OpenGroup(config);
  open.group.isBeingCreated = true;
  const until = open.now() + budget;
  try {
    await open.awaitService(until, signal);
    // What is begun is finished, whether the caller still waits or not: half a group is none.
    return await open.run(withFunctionName(name, work(open.group, until)));
  } finally {
    await open.close();
  }
}
