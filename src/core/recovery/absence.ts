import { sameBytes } from '../base/bytes.js';
import type { Task } from '../base/task.js';
import { isReachable } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import { PendingWork } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { templateOf } from '../objects/identity.js';
import type { VirtualObject } from '../objects/object.js';
import type { ChangeRecord } from '../records/record.js';
import { MOST_TWINS, readInventory } from '../replicas/inventory.js';
import { readKeyRecord } from '../replicas/key-record.js';
import { resolveKey } from '../replicas/resolve.js';
import { ownNames } from './own-names.js';

/** Returns the members that may have what a member lacks, the serving ones first. */
export function othersThan({ members }: Group, member: Member): readonly Member[] {
  const others = members.filter(
    (each) => each !== member && isReachable(each) && !['joining', 'drained'].includes(each.state.name),
  );
  return others.sort((a, b) => Number(b.isServing) - Number(a.isServing));
}

/** Returns the serials of the other members that took part in a change: they have it, and may know what became of it. */
export function othersTakingPart({ ledger }: Group, { serial }: Member, { missed }: ChangeRecord): readonly string[] {
  const all = ledger.record?.members.map((each) => each.serial) ?? [];
  return all.filter((each) => each !== serial && !missed.includes(each));
}

/**
 * Returns the other members that had a change, and whose lack of its object tells that the object was destroyed since;
 * none if one of them cannot be asked.
 */
export function holdersOf(group: Group, record: ChangeRecord, member: Member): readonly Member[] {
  const holding = othersTakingPart(group, member, record);
  const found = othersThan(group, member).filter(({ serial }) => serial !== undefined && holding.includes(serial));
  return found.length === holding.length ? found : [];
}

/**
 * Returns true if no member of several has an object or a record of its key any more. Asks the tokens, whatever surveys
 * told; false if one of them cannot be asked, or if there is none.
 */
export function* haveAllLost(members: readonly Member[], object: VirtualObject, deadline: number): Task<boolean> {
  for (const { connection } of members) {
    if (connection === undefined) return false;
    const kept = yield* readKeyRecord(connection, object.handle);
    // A key may be getting another name just now: while its record stands, it was not destroyed.
    if (kept.kind !== 'record' || kept.records.length > 0) return false;
    const template = templateOf(object.description);
    const found = yield* readInventory(connection, template, MOST_TWINS, deadline, new PendingWork());
    if (found.kind !== 'objects' || found.objects.some((each) => sameBytes(each.identity, object.identity)))
      return false;
  }
  return members.length > 0;
}

/** Returns whether a member has an object under the identity given; unknown if it could not be asked. */
export function* locate(group: Group, object: VirtualObject, member: Member): Task<'there' | 'absent' | 'unknown'> {
  const { connection } = member;
  if (connection === undefined) return 'unknown';
  const located = yield* resolveKey(group, member, connection, object, new PendingWork());
  if (located instanceof Uint8Array) return 'there';
  const replica = connection.replicas.get(object);
  return replica !== undefined && replica.kind !== 'usable' ? 'absent' : 'unknown';
}

/** Returns true if none of the members has an object or a record of its key: then it was destroyed since. */
export function* isGoneFrom(group: Group, members: readonly Member[], object: VirtualObject): Task<boolean> {
  for (const each of members) {
    const own = yield* ownNames(object, each);
    if (own === 'unknown' || own.length > 0) return false;
    if ((yield* locate(group, object, each)) !== 'absent') return false;
  }
  return members.length > 0;
}

/** Returns the names of an object, first those under which a member has it. */
export function* thereFirst(
  group: Group,
  names: readonly VirtualObject[],
  member: Member,
): Task<readonly VirtualObject[]> {
  if (names.length < 2) return names;
  const there = new Set<VirtualObject>();
  for (const name of names) if ((yield* locate(group, name, member)) === 'there') there.add(name);
  return [...there, ...names.filter((name) => !there.has(name))];
}
