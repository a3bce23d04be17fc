import type { ReadAttribute } from '../../spec/calls.js';
import type { Task } from '../base/task.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { isSecretRequest } from '../jobs/creation-request.js';
import { readAttributes } from '../jobs/operation.js';
import { forgottenTypes } from '../objects/attribute-sets.js';
import { fromHex } from '../objects/note.js';
import type { VirtualObject } from '../objects/object.js';
import { learnKeyRecord } from '../replicas/key-record.js';
import { runCall } from './call.js';

const forgotten: ReadonlySet<number> = new Set(forgottenTypes);

/**
 * Reads attributes. What tokens forget of a key when it is unwrapped is answered from its record, so that it is
 * the same whichever member answers.
 */
export function* readObject(
  group: Group,
  object: VirtualObject,
  types: readonly number[],
  deadline: number,
  /** The member whose own answer is wanted. */
  only?: Member,
): Task<readonly ReadAttribute[]> {
  const read = yield* runCall(group, { ...readAttributes(object, types), only }, deadline);
  if (only !== undefined || !isSecretRequest(object.description) || !types.some((type) => forgotten.has(type)))
    return read;
  yield* learnKeyRecord(group, object);
  const answers = object.session?.answers ?? object.record?.answers;
  if (answers === undefined) return read;
  return types.map((type, index): ReadAttribute => {
    const answer = forgotten.has(type) ? answers.find(([answered]) => answered === type) : undefined;
    if (answer !== undefined) return { presence: 'present', value: Buffer.from(fromHex(answer[1])) };
    return read[index] ?? { presence: 'invalid', value: Buffer.alloc(0) };
  });
}
