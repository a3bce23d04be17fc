import type { MechanismTable, TokenInfo } from '../../spec/calls.js';
import { CKF } from '../../spec/codes.js';
import { type Job, resultOf, step } from '../../spec/job.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import type { Group } from '../group/group.js';
import { isFailure, replyOrFailure } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import type { GroupRecord } from '../records/record.js';
import { mechanismsOn } from '../sessions/mechanisms.js';
import { checkStorage } from '../wrapping/storage-check.js';
import { wrapCandidates } from '../wrapping/wrap-probe.js';

/** Description of a member's token, and its fitness for a group. */
export interface Inspection {
  readonly member: string;
  readonly token: TokenInfo;
  readonly mechanisms: MechanismTable;
  /** Mechanisms of `wrapCandidates` that the token claims to wrap and unwrap with. */
  readonly wraps: readonly number[];
  /** Reason for which the token cannot keep the group's records; undefined if it can, or without a PIN. */
  readonly storageProblem: string | undefined;
  /** Group record on the token; undefined if it has none. */
  readonly group: Pick<GroupRecord, 'id' | 'label' | 'revision' | 'members'> | undefined;
}

/** Inspects a member that serves; leaves nothing on its token. Undefined if the member is lost meanwhile. */
export function* inspectMember(group: Group, member: Member, deadline: number): Task<Inspection | undefined> {
  const { connection } = member;
  if (connection === undefined) return undefined;
  const job: Job = { steps: [step('C_GetTokenInfo', connection.slot)], sessionless: true };
  const reply = replyOrFailure(yield* connection.run(job, 'inspection', deadline));
  if (isFailure(reply)) return undefined;
  const token = resultOf(reply, 0, 'C_GetTokenInfo');
  const mechanisms = yield* mechanismsOn(group, member, deadline);
  const both = CKF.wrap | CKF.unwrap;
  let storageProblem: string | undefined;
  try {
    // Without a login the check cannot create its private object.
    if (group.pin !== undefined) yield* checkStorage(group, member, deadline);
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    storageProblem = error.message;
  }
  const record = connection.records?.group?.record;
  return {
    member: member.name,
    token,
    mechanisms,
    wraps: wrapCandidates.filter((type) => ((mechanisms.get(type)?.flags ?? 0) & both) === both),
    storageProblem,
    group: record,
  };
}
