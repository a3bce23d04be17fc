import type { Attribute } from '../../spec/attribute.js';
import { CKA } from '../../spec/codes.js';
import { optional, resultOf, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { runCall } from '../call/call.js';
import { isReachable, runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import { isFailure } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import { Progress } from '../group/progress.js';
import { inSession, JobBuilder, withAttribute, withoutLate } from '../jobs/job-builder.js';
import { addWrapping, unwrapInputsOf, wrapMechanism } from '../jobs/key-wrapping.js';
import { findingJob, type MemberJob } from '../jobs/member-job.js';
import { noCodes, type Operation } from '../jobs/operation.js';
import type { KeyRecord, Wrapped } from '../objects/key-note.js';
import { attributesOf, fromHex, hex } from '../objects/note.js';
import { keyRecordIn } from '../records/ledger.js';
import { labelTemplate, recordTypes } from '../records/record-template.js';
import { readKeyRecord } from '../replicas/key-record.js';
import { surveyKeyRecords } from '../replicas/survey.js';
import { checkSigned } from './group-record-signature.js';

/** Maximum number of records read for one key; normally there is one, and two while one is replaced. */
const MOST_RECORDS = 16;
const extractable: Attribute = { type: CKA.extractable, value: Uint8Array.of(1) };

/** Sealed key: the wrapped form and the template that are kept of a key that cannot be wrapped again. */
type SealedKey = Pick<KeyRecord, 'template' | 'sealed'>;

/** Returns true if every current member of the group can unwrap a sealed form. */
export function isCurrent({ ledger: { record } }: Group, sealed: Wrapped): boolean {
  if (record === undefined) return true;
  if ('domain' in sealed) return sealed.domain === record.domain.id;
  return record.members.every(({ serial }) => sealed.transports[serial] !== undefined);
}

/** Returns the template of an unwrapped sealed key: a session object that may be wrapped again. */
export function openTemplate({ template }: Pick<SealedKey, 'template'>): readonly Attribute[] {
  return withAttribute(withAttribute(withoutLate(attributesOf(template)), inSession), extractable);
}

/**
 * Wraps a sealed key for the current members, on a member that can unwrap it; the key is a session object there for the
 * length of one job. Undefined if no member can.
 */
export function* rewrapSealed(group: Group, record: SealedKey, deadline: number): Task<Wrapped | undefined> {
  const { sealed } = record;
  if (sealed === undefined) return undefined;
  return 'domain' in sealed
    ? yield* rewrapUnderDomain(group, record, sealed, deadline)
    : yield* rewrapForEach(group, record, sealed, deadline);
}

function* rewrapUnderDomain(
  group: Group,
  record: SealedKey,
  sealed: Extract<Wrapped, { readonly domain: string }>,
  deadline: number,
): Task<Wrapped | undefined> {
  const { ledger } = group;
  const formerDomain = ledger.domains.get(sealed.domain);
  if (formerDomain === undefined || ledger.domain === undefined || ledger.record === undefined) return undefined;
  const { domain, record: own } = ledger;
  const mechanism = wrapMechanism(own);
  const operation: Operation<Wrapped> = {
    function: 'C_WrapKey',
    objects: [formerDomain, domain],
    mechanism: own.wrap,
    aspect: 'pure',
    kind: 'reseal',
    results: noCodes,
    job: ([former = new Uint8Array(8), current = new Uint8Array(8)]) => ({
      steps: [
        step('C_UnwrapKey', mechanism, former, fromHex(sealed.blob), openTemplate(record)),
        step('C_WrapKey', mechanism, current, { step: 0 }),
        step('C_DestroyObject', { step: 0 }),
      ],
      undo: true,
    }),
    read: (reply) => ({ domain: own.domain.id, blob: hex(resultOf(reply, 1, 'C_WrapKey')) }),
  };
  return yield* runCall(group, operation, deadline);
}

function* rewrapForEach(group: Group, record: SealedKey, sealed: Wrapped, deadline: number): Task<Wrapped | undefined> {
  const { ledger } = group;
  if (ledger.record === undefined) return undefined;
  checkSigned(group);
  const own = ledger.record;
  for (const member of group.members) {
    if (!isReachable(member) || !member.isServing) continue;
    const unwrapInputs = unwrapInputsOf(ledger, sealed, member.serial);
    if (unwrapInputs === undefined) continue;
    let read: ReturnType<typeof addWrapping> = () => undefined;
    const memberJob: MemberJob = {
      function: 'C_WrapKey',
      objects: [unwrapInputs.key],
      isReading: true,
      job: ([handle = new Uint8Array(8)]) => {
        const builder = new JobBuilder();
        const made = builder.add(
          step('C_UnwrapKey', unwrapInputs.mechanism, handle, unwrapInputs.blob, openTemplate(record)),
        );
        read = addWrapping(builder, own, 'transports', handle, { step: made });
        builder.add(step('C_DestroyObject', { step: made }));
        return { steps: builder.steps };
      },
    };
    const end = yield* runOnMember(group, member, memberJob, deadline);
    if (end.kind === 'done') return read(end.reply);
  }
  return undefined;
}

/**
 * Wraps all sealed keys for the current members. Returns the ids of former domain keys that key records still name,
 * because a sealed key could not be unwrapped or a member could not be read.
 */
export function* reseal(group: Group, deadline: number): Task<ReadonlySet<string>> {
  const named = new Set<string>();
  const retired = (group.ledger.record?.retired ?? []).map(({ id }) => id);
  const serving = group.members.filter((member) => member.isServing && isReachable(member));
  for (const member of serving) {
    const { connection } = member;
    if (connection === undefined) continue;
    const records = yield* surveyKeyRecords(connection);
    if (isFailure(records)) return new Set(retired);
    const old = [...records.values()].filter(({ sealed }) => sealed !== undefined && !isCurrent(group, sealed));
    const progress = new Progress(group, member.name, 'sealing', old.length);
    for (const { note, sealed } of old) {
      if (!(yield* resealOne(group, member, note.handle, deadline)) && sealed !== undefined && 'domain' in sealed)
        named.add(sealed.domain);
      progress.advance();
    }
    progress.finish();
  }
  return named;
}

/** Reseals the key of one record and replaces the record on all members that have it; false if that failed. */
function* resealOne(group: Group, member: Member, handle: number, deadline: number): Task<boolean> {
  const { connection } = member;
  if (connection === undefined) return false;
  // Another process may have changed the key since all records were read.
  const read = yield* readKeyRecord(connection, handle);
  if (read.kind !== 'record') return false;
  const { record } = read;
  if (record?.sealed === undefined || isCurrent(group, record.sealed)) return true;
  let sealed: Wrapped | undefined;
  try {
    sealed = yield* rewrapSealed(group, record, deadline);
  } catch {
    return false;
  }
  if (sealed === undefined) return false;
  const next: KeyRecord = { ...record, sealed, writer: group.coordinator.writer, time: group.nextTimestamp() };
  const known = group.objects.get(handle);
  if (known?.record !== undefined && known.record !== null) known.record = next;
  let isReplaced = true;
  for (const each of group.members) {
    if (!isReachable(each) || !each.isServing) continue;
    const isDone = yield* replaceKeyRecord(group, each, next, record.time, deadline);
    // If another member lacks the record, nothing has to be replaced there.
    if (each === member && !isDone) isReplaced = false;
  }
  return isReplaced;
}

/**
 * Writes the new record on a member, then destroys the old one. Writes nothing and returns false if the member has no
 * record, or a newer one than was read: another process has changed the key, and the next resealing sees it.
 */
export function* replaceKeyRecord(
  group: Group,
  member: Member,
  record: KeyRecord,
  readAt: number,
  deadline: number,
): Task<boolean> {
  const finding = findingJob(labelTemplate(record), MOST_RECORDS, recordTypes);
  const found = yield* runOnMember(group, member, finding, deadline);
  if (found.kind !== 'done') return false;
  const olds = resultOf(found.reply, 0, 'X_Find').flatMap((object) => {
    const old = keyRecordIn(object);
    return typeof old === 'object' ? [{ handle: new Uint8Array(object.handle), time: old.time }] : [];
  });
  const isNewer = olds.some(({ time }) => time > readAt);
  if (olds.length === 0 || isNewer) return false;
  const builder = new JobBuilder();
  // Fails if the key was destroyed meanwhile: its record is a tombstone then, and must not be replaced.
  const there = builder.add(step('X_Find', labelTemplate(record), 1, []));
  builder.add(step('C_GetAttributeValue', { step: there }, [CKA.label]));
  builder.addRecord(record);
  for (const { handle } of olds) builder.add(optional(step('C_DestroyObject', handle)));
  const replacing: MemberJob = { function: 'C_CreateObject', objects: [], login: found.login, job: () => builder };
  return (yield* runOnMember(group, member, replacing, deadline)).kind === 'done';
}
