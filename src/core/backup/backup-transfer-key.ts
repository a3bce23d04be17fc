import type { ObjectRef } from '../../spec/calls.js';
import { CKR } from '../../spec/codes.js';
import { type JobReply, step } from '../../spec/job.js';
import { refuse, TokenError } from '../base/error.js';
import type { AttemptRecord } from '../base/event.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import { isReachable, runOnMember } from '../call/member-job-run.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import { JobBuilder } from '../jobs/job-builder.js';
import { oaep } from '../jobs/key-wrapping.js';
import type { MemberJob } from '../jobs/member-job.js';
import type { VirtualObject } from '../objects/object.js';
import type { MemberNote } from '../records/record.js';
import { type GeneratedDomainKey, generateDomainKey, transferKeyTemplate } from '../wrapping/domain-key.js';
import { checkSigned } from '../wrapping/group-record-signature.js';

/** Time within which a lost member must come back for a rewrap (ms). */
const AWAIT_MEMBERS = 30_000;
/** Polling interval for members that come back (ms). */
const MEMBER_POLL = 100;

/**
 * Generates a backup transfer key, under which keys pass between the group and a token outside the group. A member has
 * the key within one job only: the group's record and domain key do not change, and nothing stays on a member.
 */
export function* openTransferKey(group: Group, outside: MemberNote, deadline: number): Task<GeneratedDomainKey> {
  const generatingMember = group.members.find((member) => member.isActive && isReachable(member));
  const { record } = group.ledger;
  if (generatingMember === undefined || record === undefined)
    refuse(CKR.deviceRemoved, `no member could be reached: ${group.describeMembers()}`);
  checkSigned(group);
  const id = group.port.randomBytes(8);
  return yield* generateDomainKey(group, generatingMember, id, group.salt, [...record.members, outside], deadline);
}

/** Steps that use the backup transfer key on a member. */
export interface RewrapJob<T> {
  /** Further objects that the steps need on the member. */
  readonly objects: readonly VirtualObject[];
  /** Adds the steps; returns the reader of their reply, which gives undefined if the member could not do them. */
  readonly addSteps: (
    builder: JobBuilder,
    transferKey: ObjectRef,
    handles: readonly Uint8Array[],
  ) => (reply: JobReply) => T | undefined;
}

/**
 * Runs a job with the backup transfer key on one member after the other until it succeeds. The job writes nothing, so a
 * member that was lost in it is asked again when it is back. Undefined if no member can; throws if none could be asked.
 */
export function* rewrap<T>(
  group: Group,
  generated: GeneratedDomainKey,
  rewrapJobOn: (member: Member) => RewrapJob<T> | undefined,
  deadline: number,
): Task<T | undefined> {
  const { port } = group;
  const until = Math.min(deadline, port.now() + AWAIT_MEMBERS);
  for (;;) {
    const lost: AttemptRecord[] = [];
    for (const member of group.members) {
      if (!isReachable(member) || !member.isActive) continue;
      const rewrapJob = rewrapJobOn(member);
      const memberJob = rewrapJob === undefined ? undefined : memberJobOf(group, member, generated, rewrapJob);
      if (memberJob === undefined) continue;
      const end = yield* runOnMember(group, member, memberJob.memberJob, deadline);
      if (end.kind === 'gone') lost.push(end.record);
      const result = end.kind === 'done' ? memberJob.read(end.reply) : undefined;
      if (result !== undefined) return result;
    }
    if (lost.length === 0 && group.members.some(({ isActive }) => isActive)) return undefined;
    if (port.now() >= until)
      throw new TokenError(
        CKR.deviceRemoved,
        'C_WrapKey',
        `no member could be reached: ${group.describeMembers()}`,
        lost,
      );
    yield* race([group.changed], Math.min(until, port.now() + MEMBER_POLL));
  }
}

function memberJobOf<T>(
  { ledger }: Group,
  { serial = '' }: Member,
  { forms }: GeneratedDomainKey,
  { objects, addSteps: add }: RewrapJob<T>,
): { readonly memberJob: MemberJob; readonly read: (reply: JobReply) => T | undefined } | undefined {
  const form = forms.get(serial);
  const transport = ledger.transports.get(serial);
  if (form === undefined || transport === undefined) return undefined;
  let read: (reply: JobReply) => T | undefined = () => undefined;
  const memberJob: MemberJob = {
    function: 'C_WrapKey',
    objects: [transport, ...objects],
    isReading: true,
    job: ([handle = new Uint8Array(8), ...handles]) => {
      const builder = new JobBuilder();
      const transferKey = builder.add(step('C_UnwrapKey', oaep, handle, form, transferKeyTemplate));
      read = add(builder, { step: transferKey }, handles);
      builder.add(step('C_DestroyObject', { step: transferKey }));
      return builder;
    },
  };
  return { memberJob, read: (reply) => read(reply) };
}
