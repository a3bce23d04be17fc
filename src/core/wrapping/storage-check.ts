import { type Attribute, ulongBytes } from '../../spec/attribute.js';
import { CKA, CKO, CKR } from '../../spec/codes.js';
import { optional, resultOf, step } from '../../spec/job.js';
import { CKR_OK } from '../../spec/verdict.js';
import { sameBytes } from '../base/bytes.js';
import { refuse } from '../base/error.js';
import type { Task } from '../base/task.js';
import { runOnMemberOrThrow } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { inSession, JobBuilder } from '../jobs/job-builder.js';
import { RESERVED_LABEL } from '../objects/identity.js';

/** Size of the largest records, those of sealed keys (bytes). */
const LARGEST_RECORD = 16 * 1024;
const yes = Uint8Array.of(1);

/**
 * Writes a data object as large as records get, reads, finds and removes it; throws if the token does not keep it.
 * Returns true if the token finds data objects by CKA_OBJECT_ID.
 */
export function* checkStorage(group: Group, member: Member, deadline: number): Task<boolean> {
  const value = group.port.randomBytes(LARGEST_RECORD);
  const template: readonly Attribute[] = [
    { type: CKA.class, value: ulongBytes(CKO.data) },
    { type: CKA.private, value: yes },
    { type: CKA.label, value: Buffer.from(`${RESERVED_LABEL}probe`) },
    { type: CKA.objectId, value: group.port.randomBytes(16) },
    { type: CKA.value, value },
  ];
  const builder = new JobBuilder();
  const kept = builder.persist({ step: builder.add(step('C_CreateObject', [...template, inSession])) });
  const readAt = builder.add(step('C_GetAttributeValue', { step: kept }, [CKA.value]));
  const byId = template.filter(({ type }) => type === CKA.class || type === CKA.objectId);
  const foundAt = builder.add(optional(step('X_Find', byId, 2, [])));
  builder.add(step('C_DestroyObject', { step: kept }));
  const reply = yield* runOnMemberOrThrow(
    group,
    member,
    { function: 'C_CreateObject', objects: [], job: () => builder },
    deadline,
  );
  const [read] = resultOf(reply, readAt, 'C_GetAttributeValue');
  if (!sameBytes(read?.value ?? new Uint8Array(), value))
    refuse(CKR.deviceError, `${member.name} does not keep data objects of ${LARGEST_RECORD} bytes`);
  return reply.results[foundAt]?.code === CKR_OK && resultOf(reply, foundAt, 'X_Find').length === 1;
}
