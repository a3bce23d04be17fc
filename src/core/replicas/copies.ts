import type { Attribute } from '../../spec/attribute.js';
import { ck } from '../../spec/constants.js';
import { resultOf, step } from '../../spec/job.js';
import { attributeIn } from '../../spec/rules.js';
import { FOREVER, type Task } from '../base/task.js';
import type { Connection } from '../group/connection.js';
import type { Group } from '../group/group.js';
import { type Failure, isFailure, type PendingWork, replyOrFailure } from '../group/job-outcome.js';
import type { FoundReplica } from '../objects/found-object.js';
import { isProvenByIdentity } from '../objects/identity.js';
import { areOfOneKey, type VirtualObject } from '../objects/object.js';
import { compare } from './fingerprint.js';
import { candidatesOn } from './inventory.js';

/** Attributes that tell exact copies of one key apart: its usage flags. */
export const useTypes: readonly number[] = [
  'SENSITIVE',
  'EXTRACTABLE',
  'ENCRYPT',
  'DECRYPT',
  'SIGN',
  'VERIFY',
  'WRAP',
  'UNWRAP',
  'DERIVE',
].map((name) => ck(`CKA_${name}`));

/** Returns the use that a template states: a digit for each attribute of `useTypes`. */
export function useIn(template: readonly Attribute[]): string {
  return useTypes.map((type) => (attributeIn(template, type)?.[0] === 1 ? '1' : '0')).join('');
}

/** Reads the uses of objects on a member, in the order of the objects. */
export function* readUses(
  connection: Connection,
  copies: readonly FoundReplica[],
  work: PendingWork,
): Task<readonly string[] | Failure> {
  const steps = copies.map(({ handle }) => step('C_GetAttributeValue', handle, useTypes));
  const reply = replyOrFailure(yield* connection.run({ steps }, 'copies', FOREVER, work));
  if (isFailure(reply)) return reply;
  return copies.map((_copy, index) =>
    resultOf(reply, index, 'C_GetAttributeValue')
      .map(({ presence, value }) => (presence === 'present' && value[0] === 1 ? '1' : '0'))
      .join(''),
  );
}

/** Picks the copy on a member that the object is: one with the object's use; if there is none, by its ordinal. */
export function* pickCopy(
  connection: Connection,
  object: VirtualObject,
  copies: readonly FoundReplica[],
  work: PendingWork,
): Task<FoundReplica | undefined | Failure> {
  const otherwise = copies[Math.min(object.ordinal, copies.length - 1)];
  if (copies.length < 2 || object.use === undefined) return otherwise;
  const uses = yield* readUses(connection, copies, work);
  if (isFailure(uses)) return uses;
  return copies.find((_copy, index) => uses[index] === object.use) ?? otherwise;
}

/** Counts the copies of an object's key on a member that have its use; undefined if the member could not be asked. */
function* countCopies(
  group: Group,
  connection: Connection,
  object: VirtualObject,
  work: PendingWork,
): Task<number | undefined> {
  const candidates = yield* candidatesOn(connection, object, work);
  if (candidates.kind !== 'candidates') return undefined;
  const same: FoundReplica[] = [];
  for (const candidate of candidates.list) {
    const comparison = isProvenByIdentity(object.description)
      ? 'same'
      : yield* compare(group, connection, object, candidate, work);
    if (comparison === 'same') same.push(candidate);
  }
  if (object.use === undefined || same.length === 0) return same.length;
  const uses = yield* readUses(connection, same, work);
  return isFailure(uses) ? undefined : uses.filter((use) => use === object.use).length;
}

/**
 * Returns true if one member has fewer copies of an object's key than another member. Copies look alike, so a copy that
 * is found does not show that all are there.
 */
export function* isShortOfCopies(
  group: Group,
  target: Connection,
  source: Connection,
  object: VirtualObject,
  work: PendingWork,
): Task<boolean> {
  const copies = group.objects.aliasesOf(object.identity).filter(({ proofs }) => areOfOneKey(proofs, object.reference));
  if (copies.length < 2) return false;
  const own = yield* countCopies(group, target, object, work);
  const theirs = yield* countCopies(group, source, object, work);
  return own !== undefined && theirs !== undefined && own < theirs;
}
