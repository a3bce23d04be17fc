import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import type { FoundObject, ReadAttribute } from '../../spec/calls.js';
import { CKA, CKK, CKO } from '../../spec/codes.js';
import type { JobReply } from '../../spec/job.js';
import { resultOf, step } from '../../spec/job.js';
import { describe, describedTypes, identityOf, RESERVED_LABEL } from '../objects/identity.js';
import { fromHex, noteProofs, proofsIn } from '../objects/note.js';
import { type Alias, VirtualObject } from '../objects/object.js';
import {
  type AliasRecord,
  type ChangeRecord,
  type DomainNote,
  type DoneRecord,
  type GroupRecord,
  type GroupwideRecord,
  groupwideTemplate,
  isLater,
  type PinNote,
  readRecord,
  recordTypes,
} from './record.js';

export const DOMAIN_LABEL: string = `${RESERVED_LABEL}domain`;
export const TRANSPORT_LABEL: string = `${RESERVED_LABEL}transport`;
/** So many records of the whole group are read from a member. */
const MOST_RECORDS = 100_000;

/** A record as it was found on a member. */
export interface FoundRecord<R extends GroupwideRecord = GroupwideRecord> {
  readonly handle: Uint8Array;
  readonly record: R;
}

/** The records of the whole group on one member. */
export interface RecordsFound {
  readonly kind: 'records';
  readonly group: FoundRecord<GroupRecord> | undefined;
  readonly aliases: readonly FoundRecord<AliasRecord>[];
  readonly changes: readonly FoundRecord<ChangeRecord>[];
  /** Which entries of other members' journals members are done with. */
  readonly done: readonly FoundRecord<DoneRecord>[];
  /** What says that the PIN is being changed. */
  readonly pins: readonly PinNote[];
  /** A record of a later format is among them. */
  readonly newer: boolean;
  /** There are older records of the group beside the newest: whoever wrote that has ended in the middle. */
  readonly hasOlder: boolean;
}

/** Finds the group's own keys of a label. */
export function ownKeyTemplate(label: string): readonly Attribute[] {
  return [{ type: CKA.label, value: Buffer.from(label) }];
}

/** The step that reads them. */
export const findRecords: ReturnType<typeof step> = step('X_Find', groupwideTemplate, MOST_RECORDS, recordTypes);

/** The records in what `findRecords` found. */
export function recordsIn(found: readonly FoundObject[]): RecordsFound {
  let group: FoundRecord<GroupRecord> | undefined;
  const aliases: FoundRecord<AliasRecord>[] = [];
  const changes: FoundRecord<ChangeRecord>[] = [];
  const done: FoundRecord<DoneRecord>[] = [];
  const pins: PinNote[] = [];
  let newer = false;
  let hasOlder = false;
  for (const { handle, attributes } of found) {
    const record = readRecord(attributes[0]?.value ?? new Uint8Array());
    if (record === 'newer') newer = true;
    else if (record?.kind === 'group') {
      if (group !== undefined && group.record.id === record.id) hasOlder = true;
      if (group === undefined || isLater(record, group.record)) group = { handle, record };
    } else if (record?.kind === 'alias') aliases.push({ handle, record });
    else if (record?.kind === 'intent' || record?.kind === 'journal') changes.push({ handle, record });
    else if (record?.kind === 'done') done.push({ handle, record });
    else if (record?.kind === 'pin') pins.push(record);
  }
  return { kind: 'records', group, aliases, changes, done, pins, newer, hasOlder };
}

export function foundIn(reply: JobReply, index: number): readonly FoundObject[] {
  return resultOf(reply, index, 'X_Find');
}

/** One of the group's own keys, by what its record says of it. */
function ownKey(values: ReadonlyMap<number, Uint8Array>): VirtualObject {
  const attributes = describedTypes.map((type): ReadAttribute => {
    const value = values.get(type);
    return value === undefined
      ? { presence: 'invalid', value: Buffer.alloc(0) }
      : { presence: 'present', value: Buffer.from(value) };
  });
  const description = describe(attributes);
  const object = new VirtualObject(0, identityOf(description), description);
  object.referenced = true;
  return object;
}

const yes = Uint8Array.of(1);

/** A domain key as an object: what is looked for on a member, and proven. */
function domainObject({ id, proofs }: DomainNote): VirtualObject {
  const object = ownKey(
    new Map([
      [CKA.class, ulongBytes(CKO.secretKey)],
      [CKA.keyType, ulongBytes(CKK.aes)],
      [CKA.label, Buffer.from(DOMAIN_LABEL)],
      [CKA.id, fromHex(id)],
      [CKA.token, yes],
      [CKA.private, yes],
    ]),
  );
  for (const [kind, proof] of proofsIn(proofs)) object.reference.set(kind, proof);
  return object;
}

/** What the group's records say, as far as this process has read them. */
export class Ledger {
  record: GroupRecord | undefined;
  /** The key that keys travel under; an object like any other, but for the application's eyes. */
  domain: VirtualObject | undefined;
  /** All domain keys that keys may be wrapped under, by their ids in hexadecimal: the one of now, and those before. */
  readonly domains: Map<string, VirtualObject> = new Map<string, VirtualObject>();
  /** The members' transport keys (private), by serial. */
  readonly transports: Map<string, VirtualObject> = new Map<string, VirtualObject>();
  /** Records of a later format were met: nothing is written any more. */
  isNewer: boolean = false;
  /** When the aliases were last read (ms of the port's clock). */
  aliasesReadAt: number = Number.NEGATIVE_INFINITY;
  #aliases = new Map<string, Alias[]>();

  /** Takes in a record of the group; false when what is known is as new. */
  adopt(record: GroupRecord): boolean {
    if (this.record !== undefined && !isLater(record, this.record)) return false;
    this.record = record;
    for (const note of [record.domain, ...(record.retired ?? [])]) {
      if (!this.domains.has(note.id)) this.domains.set(note.id, domainObject(note));
    }
    const named = new Set([record.domain, ...(record.retired ?? [])].map(({ id }) => id));
    for (const id of [...this.domains.keys()]) if (!named.has(id)) this.domains.delete(id);
    this.domain = this.domains.get(record.domain.id);
    this.transports.clear();
    for (const { serial, modulus, transport, publicExponent } of record.members) {
      this.transports.set(
        serial,
        ownKey(
          new Map([
            [CKA.class, ulongBytes(CKO.privateKey)],
            [CKA.keyType, ulongBytes(CKK.rsa)],
            [CKA.label, Buffer.from(TRANSPORT_LABEL)],
            [CKA.id, fromHex(transport)],
            [CKA.modulus, fromHex(modulus)],
            [CKA.publicExponent, fromHex(publicExponent)],
            [CKA.token, yes],
            [CKA.private, yes],
          ]),
        ),
      );
    }
    return true;
  }

  /** Whether a token is one of the group's; without a record all are. */
  isMember(serial: string): boolean {
    return this.record === undefined || this.record.members.some((note) => note.serial === serial);
  }

  isFilling(serial: string | undefined): boolean {
    return serial !== undefined && this.record?.filling?.includes(serial) === true;
  }

  isDrained(serial: string | undefined): boolean {
    return serial !== undefined && this.record?.drained?.includes(serial) === true;
  }

  /** The aliases as the members have them; those of several members are merged. */
  learn(records: readonly RecordsFound[]): ReadonlyMap<string, readonly Alias[]> {
    this.#aliases = new Map();
    return this.learnMore(records);
  }

  learnMore(records: readonly RecordsFound[]): ReadonlyMap<string, readonly Alias[]> {
    for (const { aliases, newer } of records) {
      if (newer) this.isNewer = true;
      for (const { record } of aliases) this.addAlias(record);
    }
    return this.#aliases;
  }

  addAlias({ identity, handle, proofs, use, time }: AliasRecord): ReadonlyMap<string, readonly Alias[]> {
    // It went by another name before, or goes by another one now.
    const newest = this.#newest(handle);
    if (newest !== undefined && newest.identity !== identity) {
      if (newest.time > time) return this.#aliases;
      this.dropAliases(handle);
    }
    const known = this.#aliases.get(identity) ?? [];
    const own = known.find((alias) => alias.handle === handle);
    if (own !== undefined && own.time >= time) return this.#aliases;
    const others = known.filter((alias) => alias !== own);
    this.#aliases.set(identity, [...others, { handle, proofs: proofsIn(proofs), use: use ?? undefined, time }]);
    return this.#aliases;
  }

  #newest(handle: number): { readonly identity: string; readonly time: number } | undefined {
    for (const [identity, aliases] of this.#aliases) {
      const own = aliases.find((alias) => alias.handle === handle);
      if (own !== undefined) return { identity, time: own.time };
    }
    return undefined;
  }

  /** Forgets the aliases of a handle that is void, or that goes by another identity now. */
  dropAliases(handle: number): ReadonlyMap<string, readonly Alias[]> {
    for (const [identity, aliases] of this.#aliases) {
      const left = aliases.filter((alias) => alias.handle !== handle);
      if (left.length === 0) this.#aliases.delete(identity);
      else this.#aliases.set(identity, left);
    }
    return this.#aliases;
  }

  /** The alias record of a handle, as it is known here; undefined where it has none. */
  aliasOf(handle: number): AliasRecord | undefined {
    for (const [identity, aliases] of this.#aliases) {
      const own = aliases.find((alias) => alias.handle === handle);
      if (own === undefined) continue;
      const { proofs, use, time } = own;
      return { kind: 'alias', handle, identity, proofs: noteProofs(proofs), use: use ?? null, time };
    }
    return undefined;
  }

  hasAliases(handle: number): boolean {
    for (const aliases of this.#aliases.values()) if (aliases.some((alias) => alias.handle === handle)) return true;
    return false;
  }
}
