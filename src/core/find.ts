import type { Attribute } from '../spec/attribute.js';
import { ck } from '../spec/constants.js';
import { Attempt, type AttemptEnd } from './attempt.js';
import { cureBlindness } from './blindness.js';
import type { Connection } from './connection.js';
import { readUses } from './copies.js';
import { TokenError } from './error.js';
import type { AttemptRecord } from './event.js';
import { proofsOf } from './fingerprint.js';
import type { Group } from './group.js';
import { isProvenByIdentity, isRenamed, isReserved } from './identity.js';
import { completeInventory, type FoundReplica, findJob } from './inventory.js';
import { findRecords, foundIn, type RecordsFound, recordsIn } from './ledger.js';
import type { Member } from './member.js';
import { type Alias, areOfOneKey, fingerprintOf, type ProofKind, type VirtualObject } from './object.js';
import { noCodes, type Operation } from './operation.js';
import { Effort, failureOf } from './outcome.js';
import { hex, proofsIn } from './record.js';
import type { Task } from './task.js';

const objectHandleInvalid = ck('CKR_OBJECT_HANDLE_INVALID');
const deviceRemoved = ck('CKR_DEVICE_REMOVED');
const MOST_OBJECTS = 0x7fff_ffff;
/** When no member has answered, they are asked again after so long (ms). */
const RETRY_AFTER = 25;

/** A find on one member: an attempt, then what turns its reply into objects. */
class Search extends Effort {
  readonly attempt: Attempt;
  /** What the member's records say, where they were read on the occasion. */
  records: RecordsFound | undefined;
  /** The same, where they were read for the sake of twins. */
  ownRecords: RecordsFound | undefined;
  /** Objects whose real handle is another than it was, and those where it is the same. */
  readonly moved: Set<VirtualObject> = new Set<VirtualObject>();
  readonly intact: Set<VirtualObject> = new Set<VirtualObject>();
  /** Known objects by their real handles, once that is asked for. */
  knownHandles: ReadonlyMap<string, VirtualObject> | undefined;
  objects: readonly VirtualObject[] | undefined;
  end: AttemptEnd | undefined;

  constructor(
    readonly group: Group,
    readonly member: Member,
    connection: Attempt['connection'],
  ) {
    super();
    this.attempt = new Attempt(member, connection, group);
  }

  *run(template: readonly Attribute[], deadline: number): Task<void> {
    const { attempt } = this;
    this.epoch = attempt.connection.epoch;
    try {
      const { group } = this;
      attempt.start(operationOf(template, group.readsRecords), deadline);
      while (!attempt.settled) {
        yield { signals: [attempt], until: deadline };
        if (attempt.late) this.markLate();
        if (this.group.port.now() >= deadline) return;
      }
      this.end = attempt.end;
      if (attempt.end?.kind !== 'ok') return;
      if (attempt.end.reply.results.length > 1) {
        this.records = recordsIn(foundIn(attempt.end.reply, 1));
        group.learnMissed(this.member, this.records);
        this.member.revision = Math.max(this.member.revision, this.records.group?.record.revision ?? -1);
        for (const { record } of this.records.aliases) group.objects.learnAliases(group.ledger.addAlias(record));
      }
      const inventory = yield* completeInventory(attempt.connection, attempt.end.reply, deadline, this);
      if (inventory.kind === 'objects') {
        if (this.records === undefined && needsAliases(group, inventory.objects)) yield* this.#readAliases(deadline);
        this.objects = yield* intern(this, inventory.objects);
      } else this.end = attempt.judged(inventory);
    } finally {
      attempt.cancel();
      this.settle();
    }
  }

  *#readAliases(deadline: number): Task<void> {
    const outcome = yield* this.attempt.connection.run({ steps: [findRecords] }, 'find', deadline, this);
    if (outcome.kind !== 'reply' || failureOf(outcome) !== undefined) return;
    this.ownRecords = recordsIn(foundIn(outcome.reply, 0));
    this.group.learnSome([this.ownRecords]);
  }

  /** The aliases of an identity on this very member, which belong to what is found there; undefined if not read. */
  aliasesOf(identity: Uint8Array): readonly Alias[] | undefined {
    const records = this.records ?? this.ownRecords;
    if (records === undefined) return undefined;
    const digest = hex(this.group.port.sha256(identity));
    return records.aliases
      .filter(({ record }) => record.identity === digest)
      .map(({ record: { handle, proofs, use, time } }) => ({
        handle,
        proofs: proofsIn(proofs),
        use: use ?? undefined,
        time,
      }));
  }
}

/**
 * Whether only aliases, which this process may not have read yet, tell the handles: of twins and copies, and of what it
 * has not met, which may have been renamed by another process since it was made.
 */
function needsAliases(group: Group, found: readonly FoundReplica[]): boolean {
  if (group.ledger.record === undefined) return false;
  const isNew = ({ identity, description }: FoundReplica): boolean =>
    description.token && !isReserved(description.label) && group.objects.withIdentity(identity).length === 0;
  if (found.some(isNew)) return true;
  const counts = new Map<string, { readonly identity: Uint8Array; count: number }>();
  for (const { identity, description } of found) {
    if (!description.token || isReserved(description.label)) continue;
    const key = Buffer.from(identity).toString('latin1');
    const counted = counts.get(key) ?? { identity, count: 0 };
    counted.count += 1;
    counts.set(key, counted);
  }
  return [...counts.values()].some(({ identity, count }) => {
    const known = group.objects.aliasesOf(identity).length;
    return count !== known && (count > 1 || group.objects.isTwinned(identity));
  });
}

function operationOf(template: readonly Attribute[], readsRecords: boolean): Operation<undefined> {
  return {
    function: 'C_FindObjects',
    objects: [],
    mechanism: undefined,
    aspect: 'pure',
    kind: 'find',
    results: noCodes,
    job: () => {
      const job = findJob(template, MOST_OBJECTS);
      return readsRecords ? { steps: [...job.steps, findRecords] } : job;
    },
    read: () => undefined,
  };
}

/**
 * The objects that match a template on any member in service, in the order of the first member that has
 * them. An empty answer of one member proves nothing, so all are asked at once and merged (Rule 14); one
 * that is late is not waited for when another has answered that is known to be in step.
 */
export function* findObjects(
  group: Group,
  template: readonly Attribute[],
  deadline: number,
): Task<readonly VirtualObject[]> {
  const { port } = group;
  const records: AttemptRecord[] = [];
  group.counters.calls += 1;
  for (;;) {
    const searches = start(group, template, deadline);
    try {
      const answered = searches.length === 0 ? [] : yield* gather(group, searches, deadline, records);
      if (answered.length > 0) {
        learn(group, answered);
        return merge(group, answered).filter((object) => group.isVisible(object));
      }
    } finally {
      for (const search of searches) search.attempt.cancel();
    }
    if (port.now() >= deadline || group.isHopeless) {
      throw new TokenError(deviceRemoved, 'C_FindObjects', `no member answered: ${group.whereabouts}`, records);
    }
    // Nobody may have been blamed, so that nothing changes: then it is tried again after a moment.
    yield { signals: [group.changed], until: Math.min(deadline, port.now() + RETRY_AFTER) };
  }
}

function start(group: Group, template: readonly Attribute[], deadline: number): Search[] {
  const named = (...names: string[]): Member[] =>
    group.members.filter(
      ({ state, connection }) => names.includes(state.name) && connection !== undefined && connection.end === undefined,
    );
  // One that has missed something is asked when nobody is there that has not.
  let members = named('active');
  if (members.length === 0) members = named('standby');
  if (members.length === 0) members = named('stale');
  if (members.length === 0) members = named('suspect');
  return members.flatMap((member) => {
    const { connection } = member;
    if (connection === undefined) return [];
    const search = new Search(group, member, connection);
    group.port.start(search.run(template, deadline));
    return [search];
  });
}

function* gather(
  group: Group,
  searches: readonly Search[],
  deadline: number,
  records: AttemptRecord[],
): Task<Search[]> {
  const judged = new Set<Search>();
  for (;;) {
    for (const search of searches) {
      if (!search.settled || judged.has(search)) continue;
      judged.add(search);
      if (search.objects === undefined) blame(search, records);
    }
    const answered = searches.filter(({ objects }) => objects !== undefined);
    const waiting = searches.filter(({ settled }) => !settled);
    // Only one that is known to have everything may speak for those that are late.
    const isComplete = answered.some(({ member }) => isInStep(group, member));
    const worthWaiting = waiting.filter(
      ({ late, member }) => !(late && isComplete) && (member.isActive || member.state.name === 'standby'),
    );
    if (waiting.length === 0 || (answered.length > 0 && worthWaiting.length === 0)) return answered;
    if (group.port.now() >= deadline) return answered;
    yield { signals: [...waiting, group.changed], until: deadline };
  }
}

/** Whether a member has all that the group has changed, as far as this process knows. */
function isInStep({ ledger }: Group, { isActive, isUnsettled, unable }: Member): boolean {
  return ledger.record !== undefined && isActive && !isUnsettled && unable.size === 0;
}

function blame({ attempt, end, member }: Search, records: AttemptRecord[]): void {
  const { record } = attempt;
  records.push({ ...record, function: record.function === '' ? 'C_FindObjects' : record.function });
  if (end?.kind === 'fault') throw end.error;
  if (end?.kind !== 'code') return;
  if (end.verdict === 'caller') throw new TokenError(end.code, end.function, '', records, member.name);
  if (end.verdict === 'busy') member.backOff();
  // A member that cannot even list its objects is in trouble, whatever it calls it.
  else member.suspect(attempt.connection, `${record.function} answered ${record.outcome}`);
}

function merge(group: Group, answered: readonly Search[]): readonly VirtualObject[] {
  const merged = new Set<VirtualObject>();
  for (const { objects } of answered) for (const object of objects ?? []) merged.add(object);
  for (const { objects, member } of answered) {
    const own = new Set(objects);
    for (const object of merged) {
      if (!own.has(object) && !object.standings.has(member.name)) group.noteStanding(member, object, 'absent');
    }
  }
  return [...merged];
}

/** Takes in what members have said of the group's records, and of objects that are not what they were. */
function learn(group: Group, answered: readonly Search[]): void {
  const records = answered.flatMap(({ records: read }) => read ?? []);
  if (records.length > 0) group.learn(records);
  for (const { moved } of answered) {
    for (const object of moved) {
      if (answered.some(({ intact }) => intact.has(object)) || isProvenByIdentity(object.description)) continue;
      // Nobody has the one that was proven any more: what is there now has to be proven anew.
      object.reference.clear();
      object.referenced = false;
      object.record = undefined;
    }
  }
}

/** The virtual objects of what was surveyed on a member under the login `epoch`. */
export function* meetAll(
  group: Group,
  member: Member,
  connection: Connection,
  epoch: number,
  found: readonly FoundReplica[],
): Task<readonly VirtualObject[]> {
  const search = new Search(group, member, connection);
  search.epoch = epoch;
  return yield* intern(search, found);
}

/** Makes virtual objects of what a member has; objects of one identity on it are twins. */
function* intern(search: Search, found: readonly FoundReplica[]): Task<readonly VirtualObject[]> {
  const { group, attempt } = search;
  const objects: VirtualObject[] = [];
  const byIdentity = new Map<string, FoundReplica[]>();
  for (const replica of found) {
    const { label, token } = replica.description;
    if (isReserved(label)) continue;
    if (!token) {
      // Session objects of the application; others are made for a moment and nobody's business.
      const own = attempt.connection.sessionObjects.get(hex(replica.handle));
      if (own !== undefined) objects.push(own);
      continue;
    }
    if (group.objects.withIdentity(replica.identity).length === 0) noticeRename(search, replica);
    const key = Buffer.from(replica.identity).toString('latin1');
    const same = byIdentity.get(key);
    if (same === undefined) byIdentity.set(key, [replica]);
    else same.push(replica);
  }
  for (const same of byIdentity.values()) {
    const [first] = same;
    if (first === undefined) continue;
    if (same.length === 1 && !group.objects.isTwinned(first.identity)) {
      const object = group.objects.intern(first.identity, first.description);
      meet(search, object, first);
      objects.push(object);
    } else {
      objects.push(...(yield* internTwins(search, same)));
    }
  }
  return objects;
}

/**
 * An object of a name that nobody here knows, under a real handle that is known: another process has renamed it. Its
 * alias may not be seen yet, since hosts are slow to see what others write; whether it is that key is proven anew.
 */
function noticeRename(search: Search, { handle, identity, description, valueDigest }: FoundReplica): void {
  const { group, attempt } = search;
  const { connection } = attempt;
  if (search.epoch !== connection.epoch) return;
  search.knownHandles ??= new Map(
    [...connection.replicas].flatMap(([object, replica]) =>
      replica.kind === 'usable' ? [[hex(replica.handle), object] as const] : [],
    ),
  );
  const known = search.knownHandles.get(hex(handle));
  if (known === undefined || group.objects.get(known.handle) !== known) return;
  if (!isRenamed(known.description, description) || Buffer.compare(known.valueDigest, valueDigest) !== 0) return;
  group.objects.rename(known, identity, description);
  connection.replicas.delete(known);
}

function meet(search: Search, object: VirtualObject, replica: FoundReplica): void {
  const { group, attempt, moved, intact } = search;
  const { connection, member } = attempt;
  if (object.valueDigest.length === 0) object.valueDigest = replica.valueDigest;
  if (search.epoch !== connection.epoch) return;
  const known = connection.replicas.get(object);
  if (known?.kind === 'usable') {
    if (Buffer.compare(known.handle, replica.handle) === 0) {
      intact.add(object);
      return;
    }
    moved.add(object);
    connection.replicas.delete(object);
  }
  if (isProvenByIdentity(object.description)) {
    connection.replicas.set(object, { kind: 'usable', handle: replica.handle, proven: true });
    group.noteStanding(member, object, 'proven');
  } else if (known?.kind === 'absent') {
    connection.replicas.delete(object);
    object.standings.delete(member.name);
  }
}

interface ProvenTwin {
  readonly twin: FoundReplica;
  readonly proofs: ReadonlyMap<ProofKind, Uint8Array>;
}

/** Twins are told apart by what proves their keys, exact copies of one key by what they may be used for. */
function* internTwins(search: Search, twins: readonly FoundReplica[]): Task<readonly VirtualObject[]> {
  const { group, attempt } = search;
  const byKey = new Map<string, ProvenTwin[]>();
  for (const twin of twins) {
    const proofs = isProvenByIdentity(twin.description)
      ? new Map<ProofKind, Uint8Array>()
      : yield* proofsOf(group, attempt.connection, twin, search);
    if (!(proofs instanceof Map)) continue;
    const key = Buffer.from(fingerprintOf(proofs)).toString('latin1');
    byKey.set(key, [...(byKey.get(key) ?? []), { twin, proofs }]);
  }
  const objects: VirtualObject[] = [];
  for (const copies of byKey.values()) {
    const uses = yield* usesOf(search, copies);
    if (uses === undefined) continue;
    const ordinals = new Map<string | undefined, number>();
    for (const [index, { twin, proofs }] of copies.entries()) {
      const use = uses[index];
      const ordinal = ordinals.get(use) ?? 0;
      ordinals.set(use, ordinal + 1);
      const object = group.objects.internTwin(
        twin.identity,
        proofs,
        ordinal,
        twin.description,
        use,
        search.aliasesOf(twin.identity),
      );
      for (const [kind, proof] of proofs) object.reference.set(kind, proof);
      object.referenced = true;
      meet(search, object, twin);
      objects.push(object);
    }
  }
  return objects;
}

/** The uses of copies; of a key that has none here it is not asked for. Undefined when they could not be read. */
function* usesOf(search: Search, copies: readonly ProvenTwin[]): Task<readonly (string | undefined)[] | undefined> {
  const { group, attempt } = search;
  const [first] = copies;
  const isCopied =
    first !== undefined &&
    group.objects.aliasesOf(first.twin.identity).filter(({ proofs }) => areOfOneKey(proofs, first.proofs)).length > 1;
  if (copies.length < 2 && !isCopied) return [undefined];
  const uses = yield* readUses(
    attempt.connection,
    copies.map(({ twin }) => twin),
    search,
  );
  return 'kind' in uses ? undefined : uses;
}

/**
 * The object of a virtual handle; one that this process has not met costs an enumeration. There is one within
 * `freshness` at most: whoever asks sooner waits, since another process may have made the object meanwhile.
 */
export function* findByHandle(group: Group, handle: number, deadline: number): Task<VirtualObject> {
  const known = visibleObject(group, handle);
  if (known !== undefined) return known;
  const { port } = group;
  const askedAt = port.now();
  const mayEnumerateAt = Math.min(deadline, group.enumeratedAt + group.policy.freshness);
  while (group.enumeratedAt < askedAt) {
    if (group.enumerating === undefined && port.now() < mayEnumerateAt) {
      yield { signals: [], until: mayEnumerateAt };
      continue;
    }
    if (port.now() >= deadline) break;
    group.enumerating ??= port.start(enumerate(group, deadline));
    const { enumerating } = group;
    if (!enumerating.settled) yield { signals: [enumerating], until: deadline };
    if (enumerating.ended?.ok === false) throw enumerating.ended.error;
    const met = visibleObject(group, handle);
    if (met !== undefined) return met;
  }
  const found = visibleObject(group, handle) ?? (yield* findUnseen(group, handle, deadline));
  if (found === undefined)
    throw new TokenError(objectHandleInvalid, 'C_FindObjects', 'no member has an object of that handle');
  return found;
}

/** One that the hosts do not see: other hosts may; looked for once in `freshness` at most. */
function* findUnseen(group: Group, handle: number, deadline: number): Task<VirtualObject | undefined> {
  const { port, policy, ledger } = group;
  if (ledger.record === undefined || port.now() - group.curedAt < policy.freshness) return undefined;
  group.curedAt = port.now();
  yield* cureBlindness(
    group,
    group.members.filter(({ isServing }) => isServing),
  );
  ledger.readAt = Number.NEGATIVE_INFINITY;
  yield* findObjects(group, [], deadline);
  return visibleObject(group, handle);
}

function visibleObject(group: Group, handle: number): VirtualObject | undefined {
  const known = group.objects.get(handle);
  return known !== undefined && group.isVisible(known) ? known : undefined;
}

/** Meets all objects, once for all who wait for it. */
function* enumerate(group: Group, deadline: number): Task<void> {
  const startedAt = group.port.now();
  try {
    yield* findObjects(group, [], deadline);
    group.enumeratedAt = startedAt;
  } finally {
    group.enumerating = undefined;
  }
}
