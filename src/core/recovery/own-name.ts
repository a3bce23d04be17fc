import type { Task } from '../base/task.js';
import type { Member } from '../group/member.js';
import { isSecretRequest } from '../jobs/creation-request.js';
import type { KeyRecord } from '../objects/key-note.js';
import { objectOf } from '../objects/note.js';
import { areOfOneKey, type VirtualObject } from '../objects/object.js';
import { keepRecord, readKeyRecord } from '../replicas/key-record.js';

/**
 * Returns a key under the name in the member's own key record, which tells names that no journal tells; undefined if the
 * member has no record of this key. `known`: records that were read in advance.
 */
export function* underOwnName(
  { handle, description, reference }: VirtualObject,
  { connection }: Member,
  known: ReadonlyMap<number, KeyRecord> | undefined,
): Task<VirtualObject | 'unknown' | undefined> {
  if (!isSecretRequest(description)) return undefined;
  if (connection === undefined) return 'unknown';
  let record = known?.get(handle);
  if (known === undefined) {
    const kept = yield* readKeyRecord(connection, handle);
    if (kept.kind !== 'record') return 'unknown';
    record = kept.record;
  }
  if (record === undefined) return undefined;
  const own = objectOf(record.note);
  keepRecord(own, record);
  // A successor under the same handle has other proofs.
  return areOfOneKey(own.reference, reference) ? own : undefined;
}
