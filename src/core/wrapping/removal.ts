import type { Attribute } from '../../spec/attribute.js';
import type { ReadAttribute } from '../../spec/calls.js';
import { CKA } from '../../spec/codes.js';
import { resultOf, step } from '../../spec/job.js';
import type { Task } from '../base/task.js';
import { runOnMemberOrThrow } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { MemberJob } from '../jobs/member-job.js';
import { pairTemplate } from '../joining/pin-record.js';
import { isReserved, RESERVED_LABEL } from '../objects/identity.js';
import { hex } from '../objects/note.js';
import { DOMAIN_LABEL, TRANSPORT_LABEL } from '../records/ledger.js';
import { groupwideTemplate, keyRecordTemplate, readRecord } from '../records/record.js';

const MOST_OBJECTS = 0x7fff_ffff;

/**
 * Takes everything that is the group's own off a member, or only keys and records of certain ids; the applications'
 * objects stay. Gives how many there were.
 */
export function* removeOwn(group: Group, member: Member, deadline: number, only?: ReadonlySet<string>): Task<number> {
  const own: readonly (readonly Attribute[])[] = [
    // The group's record goes last: until then it is plain what the rest belongs to.
    keyRecordTemplate(),
    [{ type: CKA.label, value: Buffer.from(DOMAIN_LABEL) }],
    [{ type: CKA.label, value: Buffer.from(TRANSPORT_LABEL) }],
    [{ type: CKA.label, value: Buffer.from(`${RESERVED_LABEL}probe`) }],
    pairTemplate,
    groupwideTemplate,
  ];
  let removed = 0;
  for (const template of own) {
    const find: MemberJob = {
      function: 'C_FindObjects',
      objects: [],
      job: () => ({ steps: [step('X_Find', template, MOST_OBJECTS, [CKA.label, CKA.id, CKA.value])] }),
    };
    const reply = yield* runOnMemberOrThrow(group, member, find, deadline);
    const found = resultOf(reply, 0, 'X_Find')
      .filter(({ attributes: [, id, value] }) => only === undefined || isOneOf(only, id, value))
      .sort((a, b) => order(a.attributes[0]) - order(b.attributes[0]));
    while (found.length > 0) {
      const batch = found.splice(0, 64);
      const steps = batch.map(({ handle }) => step('C_DestroyObject', handle));
      yield* runOnMemberOrThrow(
        group,
        member,
        { function: 'C_DestroyObject', objects: [], job: () => ({ steps }) },
        deadline,
      );
      removed += batch.length;
    }
  }
  return removed;
}

/** Takes the applications' objects off a member: what a token that leaves the group is not to keep. */
export function* wipeObjects(group: Group, member: Member, deadline: number): Task<number> {
  const find: MemberJob = {
    function: 'C_FindObjects',
    objects: [],
    job: () => ({ steps: [step('X_Find', [], MOST_OBJECTS, [CKA.label, CKA.token])] }),
  };
  const found = resultOf(yield* runOnMemberOrThrow(group, member, find, deadline), 0, 'X_Find')
    .filter(({ attributes: [label, token] }) => token?.value[0] === 1 && !isReserved(label?.value ?? new Uint8Array()))
    .map(({ handle }) => new Uint8Array(handle));
  for (let from = 0; from < found.length; from += 64) {
    const steps = found.slice(from, from + 64).map((handle) => step('C_DestroyObject', handle));
    yield* runOnMemberOrThrow(
      group,
      member,
      { function: 'C_DestroyObject', objects: [], job: () => ({ steps }) },
      deadline,
    );
  }
  return found.length;
}

function isOneOf(ids: ReadonlySet<string>, id: ReadAttribute | undefined, value: ReadAttribute | undefined): boolean {
  if (ids.has(hex(id?.value ?? new Uint8Array()))) return true;
  const record = readRecord(value?.value ?? new Uint8Array());
  return typeof record === 'object' && record.kind === 'group' && ids.has(record.id);
}

function order(label: { readonly value: Uint8Array } | undefined): number {
  return Buffer.from(label?.value ?? new Uint8Array()).toString() === `${RESERVED_LABEL}group` ? 1 : 0;
}
