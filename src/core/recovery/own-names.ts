import type { Task } from '../base/task.js';
import type { Member } from '../group/member.js';
import { isSecretRequest } from '../jobs/creation-request.js';
import type { KeyRecord } from '../objects/key-note.js';
import { objectOf } from '../objects/note.js';
import { areOfOneKey, type VirtualObject } from '../objects/object.js';
import { keepRecord, readKeyRecord } from '../replicas/key-record.js';

/**
 * Returns a key under the names in the member's own key records, which tell names that no journal tells: normally one,
 * and two after an interrupted write. `known`: records that were read in advance.
 */
export function* ownNames(
  { handle, description, reference }: VirtualObject,
  { connection }: Member,
  known?: ReadonlyMap<number, KeyRecord>,
): Task<readonly VirtualObject[] | 'unknown'> {
  if (!isSecretRequest(description)) return [];
  if (connection === undefined) return 'unknown';
  let records: readonly KeyRecord[] = [known?.get(handle)].filter((record) => record !== undefined);
  if (known === undefined) {
    const kept = yield* readKeyRecord(connection, handle);
    if (kept.kind !== 'record') return 'unknown';
    ({ records } = kept);
  }
  const named = records.map((record) => {
    const own = objectOf(record.note);
    keepRecord(own, record);
    return own;
  });
  // A successor under the same handle has other proofs.
  return named.filter((own) => areOfOneKey(own.reference, reference));
}
