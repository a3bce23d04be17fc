import type { FoundObject } from '../../spec/calls.js';
import type { Alias } from '../objects/alias-table.js';
import type { KeyRecord } from '../objects/key-note.js';
import { noteProofs, proofsIn } from '../objects/note.js';
import { keyRecordIn, type RecordsFound } from '../records/ledger.js';
import type { AliasRecord, ChangeRecord } from '../records/record.js';
import { destroyedAt } from '../records/tombstone.js';
import type { Group } from './group.js';
import type { Member } from './member.js';

/** Returns the alias that an alias record gives. */
export function aliasIn({ handle, identity, proofs, use, time }: AliasRecord): Alias {
  return { handle, identity, proofs: proofsIn(proofs), use: use ?? undefined, time, isOfKey: false };
}

/** Returns the alias that a key record gives; undefined for a record that states no identity. */
export function keyAliasIn({ note, identity, time }: KeyRecord): Alias | undefined {
  if (identity === undefined) return undefined;
  const { handle, proofs, use } = note;
  return { handle, identity, proofs: proofsIn(proofs), use: use ?? undefined, time, isOfKey: true };
}

/** Returns the aliases that key records give, of which `keyRecordTypes` were read. */
export function keyAliasesIn(found: readonly FoundObject[]): readonly Alias[] {
  return found.flatMap((object) => {
    if (destroyedAt(object.attributes[1]?.value) !== undefined) return [];
    const record = keyRecordIn(object);
    return typeof record === 'object' ? (keyAliasIn(record) ?? []) : [];
  });
}

/** Returns true if the alias record of a handle was read or written on a member's token. */
export function hasAliasRecord({ connection }: Member, handle: number): boolean {
  if (connection?.aliased.has(handle) === true) return true;
  return connection?.records?.aliases.some(({ record }) => record.handle === handle) ?? false;
}

/** Takes the aliases that all key records of a member give. */
export function learnKeyAliases({ objects }: Group, records: readonly KeyRecord[]): void {
  for (const record of records) {
    const alias = keyAliasIn(record);
    if (alias !== undefined) objects.addAlias(alias);
  }
}

/** Returns the alias record of a handle; undefined if this process knows none, or if a key record has the handle. */
export function knownAliasRecord({ objects }: Group, handle: number): AliasRecord | undefined {
  const alias = objects.aliasOf(handle);
  if (alias === undefined || alias.isOfKey) return undefined;
  const { identity, proofs, use, time } = alias;
  return { kind: 'alias', handle, identity, proofs: noteProofs(proofs), use: use ?? null, time };
}

/** Takes the groupwide records of members. If they are those of all active members, they replace the known aliases. */
export function learnRecords(group: Group, records: readonly RecordsFound[]): void {
  // Removed aliases show only if the records of all members are known.
  const isWhole = records.length >= group.members.filter(({ isActive }) => isActive).length;
  if (isWhole)
    group.objects.replaceAliases(records.flatMap(({ aliases }) => aliases.map(({ record }) => aliasIn(record))));
  learnSomeRecords(group, records);
  if (isWhole) group.ledger.aliasesReadAt = group.port.now();
}

/** Takes the groupwide records of some members: adds to what is known, and notices members that missed a change. */
export function learnSomeRecords(group: Group, records: readonly RecordsFound[]): void {
  learnAllButChanges(group, records);
  for (const { changes } of records) for (const { record } of changes) noticeMissedChange(group, record);
}

/** Takes the aliases, done records, PIN notes and group records of some members. */
export function learnAllButChanges(group: Group, records: readonly RecordsFound[]): void {
  for (const { group: found, aliases, pins, done, newer } of records) {
    if (newer) group.ledger.isNewer = true;
    for (const { record } of aliases) group.objects.addAlias(aliasIn(record));
    for (const { record } of done) group.missed.learnDone(record);
    group.pins.hear(pins);
    if (found !== undefined && found.record.id === group.ledger.record?.id) group.adopt(found.record);
  }
}

/** Takes a member's journal entries and done records: the changes that other members have missed. */
export function learnMissedChanges(group: Group, { serial }: Member, { changes, done }: RecordsFound): void {
  if (changes.length > 0 || done.length > 0) group.hasTraces = true;
  for (const { record } of done) group.missed.learnDone(record);
  if (serial === undefined) return;
  for (const { record } of changes) if (record.kind === 'journal') group.missed.note(record, [serial]);
}

/**
 * Has serving members that missed a change recover. Another process wrote the journal entry; calls of this process mark
 * the members themselves. A member that failed to make the change `tries` times is left as it is.
 */
export function noticeMissedChange(group: Group, record: ChangeRecord, tries = 1): void {
  if (record.kind !== 'journal' || group.changes.has(record.operation)) return;
  for (const member of group.members) {
    const { serial, connection } = member;
    if (
      serial === undefined ||
      !group.missing(record).includes(serial) ||
      (member.recovery.failedChanges.get(record.operation) ?? 0) >= tries
    )
      continue;
    if (!member.isServing || connection === undefined) continue;
    member.requireRecovery('the member missed a change');
  }
}
