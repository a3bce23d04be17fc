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
 * Reads attributes of an object. Tokens forget some attributes of a key when they unwrap the key: these are answered
 * from the key record, so that all members give the same answer.
 */
export function* readObject(
  group: Group,
  object: VirtualObject,
  types: readonly number[],
  deadline: number,
  /** Member to ask for its own answer; undefined for the group's answer. */
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
