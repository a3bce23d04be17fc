import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import type { FoundObject } from '../../spec/calls.js';
import { CKA, CKK, CKO } from '../../spec/codes.js';
import { type JobReply, resultOf, type Step, step } from '../../spec/job.js';
import type { Authority } from '../base/port.js';
import { describedTypes, describeValues, identityOf, RESERVED_LABEL } from '../objects/identity.js';
import type { KeyRecord } from '../objects/key-note.js';
import { fromHex, proofsIn } from '../objects/note.js';
import { VirtualObject } from '../objects/object.js';
import {
  type AliasRecord,
  type ChangeRecord,
  type DomainNote,
  type DoneRecord,
  FIRST_FORMAT,
  type GroupRecord,
  type GroupwideRecord,
  isLater,
  type PinNote,
} from './record.js';
import { readRecord } from './record-schema.js';
import { groupTemplate, groupwideTemplate, pinNoteTemplate, privateOnToken, recordTypes } from './record-template.js';
import { RecordTrust } from './record-trust.js';

/** Label of domain keys. */
export const DOMAIN_LABEL: string = `${RESERVED_LABEL}domain`;
/** Label of the members' transport key pairs. */
export const TRANSPORT_LABEL: string = `${RESERVED_LABEL}transport`;
/** Maximum number of groupwide records that are read from a member; one more shows that there are others. */
export const MOST_RECORDS = 100_000;
/** Maximum number of PIN notes read from a token: normally one or two, but anybody can write more. */
const MOST_NOTES = 256;

/** Record found on a member. */
export interface FoundRecord<R extends GroupwideRecord = GroupwideRecord> {
  /** Real handle of the data object. */
  readonly handle: Uint8Array;
  readonly record: R;
}

/** Groupwide records on one member. */
export interface RecordsFound {
  readonly kind: 'records';
  /** Newest group record. */
  readonly group: FoundRecord<GroupRecord> | undefined;
  readonly aliases: readonly FoundRecord<AliasRecord>[];
  /** Intents and journal entries. */
  readonly changes: readonly FoundRecord<ChangeRecord>[];
  /** Done records. */
  readonly done: readonly FoundRecord<DoneRecord>[];
  /** PIN notes. */
  readonly pins: readonly PinNote[];
  /** True if a record has a later format. */
  readonly newer: boolean;
  /** Number of values that do not have the form of records and are ignored (Rule 18). */
  readonly invalid: number;
  /** Number of group records without a valid signature of the administration key; they are ignored (Rule 19). */
  readonly refused: number;
  /** True if the member has more records than are read: what is not there may be among the others. */
  readonly isCut: boolean;
  /** True if older group records stand beside the newest, since a process ended before it removed them. */
  readonly hasOlder: boolean;
}

/** Returns the template that finds the group's own keys of a label; all are private. */
export function ownKeyTemplate(label: string): readonly Attribute[] {
  return [...privateOnToken, { type: CKA.label, value: Buffer.from(label) }];
}

/** Template that finds what a test of a token left behind, private or not: no record and no key of the group. */
export const probeTemplate: readonly Attribute[] = [
  { type: CKA.token, value: Uint8Array.of(1) },
  { type: CKA.label, value: Buffer.from(`${RESERVED_LABEL}probe`) },
];

/** Step that reads the PIN notes, for which no login is needed. */
export const findNotes: Step = step('X_Find', pinNoteTemplate, MOST_NOTES, recordTypes);

/** Step that reads the groupwide records, without the PIN notes. */
export const findGroupwide: Step = step('X_Find', groupwideTemplate, MOST_RECORDS + 1, recordTypes);

/** Maximum number of group records read from a token; normally there is one, and two while one is replaced. */
const MOST_GROUPS = 256;

/** Step that reads the group record by its label. */
export const findGroupByLabel: Step = step('X_Find', groupTemplate, MOST_GROUPS, recordTypes);

/** Steps that read the groupwide records and the PIN notes. */
export const findRecords: readonly Step[] = [findGroupwide, findNotes];

/** Returns the records that the steps `findRecords` found; `index` is that of the first step. */
export function recordsAt(trust: RecordTrust, reply: JobReply, index: number): RecordsFound {
  return recordsIn(trust, foundIn(reply, index), foundIn(reply, index + 1));
}

/** Returns the PIN note in a found object; undefined if it is none. */
export function noteIn({ attributes: [value] }: FoundObject): PinNote | undefined {
  const record = readRecord(value?.value ?? new Uint8Array());
  return typeof record === 'object' && record.kind === 'pin' ? record : undefined;
}

/** Returns the key record in a found object; undefined if there is none, or one of a later format. */
export function keyRecordIn({ attributes: [value] }: FoundObject): KeyRecord | 'invalid' | undefined {
  const record = readRecord(value?.value ?? new Uint8Array());
  if (record === 'invalid') return record;
  return typeof record === 'object' && record.kind === 'key' ? record : undefined;
}

/** Sorts found objects into records by kind; `notes` are the PIN notes. */
export function recordsIn(
  trust: RecordTrust,
  found: readonly FoundObject[],
  notes: readonly FoundObject[] = [],
): RecordsFound {
  let group: FoundRecord<GroupRecord> | undefined;
  const aliases: FoundRecord<AliasRecord>[] = [];
  const changes: FoundRecord<ChangeRecord>[] = [];
  const done: FoundRecord<DoneRecord>[] = [];
  const pins = notes.map(noteIn).filter((note) => note !== undefined);
  let invalid = 0;
  let refused = 0;
  let newer = false;
  const isCut = found.length > MOST_RECORDS;
  let hasOlder = false;
  for (const { handle, attributes } of found) {
    const record = readRecord(attributes[0]?.value ?? new Uint8Array());
    if (record === 'newer') newer = true;
    else if (record === 'invalid') invalid += 1;
    else if (record?.kind === 'group' && trust.of(record) === 'refused') refused += 1;
    else if (record?.kind === 'group') {
      if (group !== undefined && group.record.id === record.id) hasOlder = true;
      if (group === undefined || isLater(record, group.record)) group = { handle, record };
    } else if (record?.kind === 'alias') aliases.push({ handle, record });
    else if (record?.kind === 'intent' || record?.kind === 'journal') changes.push({ handle, record });
    else if (record?.kind === 'done') done.push({ handle, record });
  }
  return { kind: 'records', group, aliases, changes, done, pins, newer, invalid, refused, isCut, hasOlder };
}

/** Returns the objects that the X_Find step at an index of a job found. */
export function foundIn(reply: JobReply, index: number): readonly FoundObject[] {
  return resultOf(reply, index, 'X_Find');
}

/** Makes the object of a key of the group's own, from attributes that the group record states. */
function ownKey(values: ReadonlyMap<number, Uint8Array>): VirtualObject {
  const description = describeValues(describedTypes.map((type) => values.get(type)));
  const object = new VirtualObject(0, identityOf(description), description);
  object.referenced = true;
  return object;
}

const yes = Uint8Array.of(1);

/** Makes the object of a domain key, for finding and proving the key on members. */
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

/** Contents of the group's records, as far as this process has read them. */
export class Ledger {
  /** Trust in group records. */
  readonly trust: RecordTrust;
  /** Newest group record; undefined if the group has none. */
  record: GroupRecord | undefined;
  /** Domain key, as an object that the application does not see; undefined without a group record. */
  domain: VirtualObject | undefined;
  /** Domain keys that keys may be wrapped under, the current and the retired ones, by CKA_ID in hexadecimal. */
  readonly domains: Map<string, VirtualObject> = new Map<string, VirtualObject>();
  /** Private transport keys of the members, by serial. */
  readonly transports: Map<string, VirtualObject> = new Map<string, VirtualObject>();
  /** True once a record of a later format was read; this process then writes no more. */
  isNewer: boolean = false;
  /** Time of the last complete reading of the aliases (ms of the port's clock). */
  aliasesReadAt: number = Number.NEGATIVE_INFINITY;

  constructor(authority: Authority) {
    this.trust = new RecordTrust(authority);
  }

  /** True if the administration key has signed the record; only then keys are wrapped for its members (Rule 19). */
  get isSigned(): boolean {
    return this.record !== undefined && this.trust.of(this.record) === 'signed';
  }

  /** Format of the group's records. */
  get format(): number {
    return this.record?.format ?? FIRST_FORMAT;
  }

  /** Takes a group record if it is later than the known one; returns true if it did. */
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

  /** Returns true if a token is of the group; without a group record every token is. */
  isMember(serial: string): boolean {
    return this.record === undefined || this.record.members.some((note) => note.serial === serial);
  }

  /** Returns true if a member still lacks keys that are being copied to it. */
  isFilling(serial: string | undefined): boolean {
    return serial !== undefined && this.record?.filling?.includes(serial) === true;
  }

  /** Returns true if an operator has drained the member. */
  isDrained(serial: string | undefined): boolean {
    return serial !== undefined && this.record?.drained?.includes(serial) === true;
  }
}
