import type { Attribute } from '../../spec/attribute.js';
import { type FoundObject, NO_MAXIMUM, type ReadAttribute } from '../../spec/calls.js';
import { CKA } from '../../spec/codes.js';
import { optional, resultOf, step } from '../../spec/job.js';
import { CKR_OK, verdictOn } from '../../spec/verdict.js';
import { refuse } from '../base/error.js';
import type { Task } from '../base/task.js';
import { runOnMemberOrThrow } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { findingJob, type MemberJob } from '../jobs/member-job.js';
import { pairTemplate } from '../joining/pin-record.js';
import { isReserved, RESERVED_LABEL } from '../objects/identity.js';
import { hex } from '../objects/note.js';
import { DOMAIN_LABEL, ownKeyTemplate, probeTemplate, TRANSPORT_LABEL } from '../records/ledger.js';
import { positionTemplate } from '../records/position.js';
import { readRecord } from '../records/record-schema.js';
import { groupwideTemplate, keyRecordTemplate, outcomeTemplate, pinNoteTemplate } from '../records/record-template.js';

/** Maximum number of domain keys found on a token. */
const MOST_DOMAINS = 64;
/** Maximum number of objects that one job destroys. */
const BATCH = 64;

/**
 * Removes the group's own keys and records from a member, or with `only` those of certain ids; the applications'
 * objects stay. Returns the number of removed objects.
 */
export function* removeOwn(group: Group, member: Member, deadline: number, only?: ReadonlySet<string>): Task<number> {
  const own: readonly (readonly Attribute[])[] = [
    // The group record goes last: until then it shows which group the rest belongs to.
    keyRecordTemplate(),
    ownKeyTemplate(DOMAIN_LABEL),
    ownKeyTemplate(TRANSPORT_LABEL),
    probeTemplate,
    pairTemplate,
    pinNoteTemplate,
    outcomeTemplate(),
    positionTemplate,
    groupwideTemplate,
  ];
  let removed = 0;
  for (const template of own) {
    const found = (yield* find(group, member, template, [CKA.label, CKA.id, CKA.value], deadline))
      .filter(({ attributes: [, id, value] }) => only === undefined || isOneOf(only, id, value))
      .sort((a, b) => order(a.attributes[0]) - order(b.attributes[0]));
    removed += yield* destroy(group, member, found, deadline);
  }
  return removed;
}

/** Removes the applications' token objects from a member that leaves the group; returns their number. */
export function* wipeObjects(group: Group, member: Member, deadline: number): Task<number> {
  const found = (yield* find(group, member, [], [CKA.label, CKA.token], deadline)).filter(
    ({ attributes: [label, token] }) => token?.value[0] === 1 && !isReserved(label?.value ?? new Uint8Array()),
  );
  return yield* destroy(group, member, found, deadline);
}

/** Removes domain keys that no record names any more from a member; returns their number. */
export function* removeOldDomains(group: Group, member: Member, deadline: number): Task<number> {
  const finding = findingJob(ownKeyTemplate(DOMAIN_LABEL), MOST_DOMAINS, [CKA.id]);
  const found = resultOf(yield* runOnMemberOrThrow(group, member, finding, deadline), 0, 'X_Find');
  // An unknown domain key stays: another process may just have made it.
  const gone = new Set(group.ledger.record?.gone);
  const old = found.filter(({ attributes: [id] }) => gone.has(hex(id?.value ?? new Uint8Array())));
  return yield* destroy(group, member, old, deadline);
}

function* find(
  group: Group,
  member: Member,
  template: readonly Attribute[],
  types: readonly number[],
  deadline: number,
): Task<readonly FoundObject[]> {
  const finding: MemberJob = { ...findingJob(template, NO_MAXIMUM, types), isReading: false };
  return resultOf(yield* runOnMemberOrThrow(group, member, finding, deadline), 0, 'X_Find');
}

function* destroy(group: Group, member: Member, objects: readonly FoundObject[], deadline: number): Task<number> {
  const handles = objects.map(({ handle }) => new Uint8Array(handle));
  for (let from = 0; from < handles.length; from += BATCH) {
    const steps = handles.slice(from, from + BATCH).map((handle) => optional(step('C_DestroyObject', handle)));
    const destroying: MemberJob = { function: 'C_DestroyObject', objects: [], job: () => ({ steps }) };
    const { results } = yield* runOnMemberOrThrow(group, member, destroying, deadline);
    // Another process may have destroyed an object meanwhile.
    const refused = results.find(({ code }) => code !== CKR_OK && verdictOn(code, group.policy.verdicts) !== 'object');
    if (refused !== undefined) refuse(refused.code, `${member.name} did not destroy an object`);
  }
  return handles.length;
}

function isOneOf(ids: ReadonlySet<string>, id: ReadAttribute | undefined, value: ReadAttribute | undefined): boolean {
  if (ids.has(hex(id?.value ?? new Uint8Array()))) return true;
  const record = readRecord(value?.value ?? new Uint8Array());
  return typeof record === 'object' && record.kind === 'group' && ids.has(record.id);
}

function order(label: { readonly value: Uint8Array } | undefined): number {
  return Buffer.from(label?.value ?? new Uint8Array()).toString() === `${RESERVED_LABEL}group` ? 1 : 0;
}
