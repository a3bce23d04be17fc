import type { MechanismTable, TokenInfo } from '../../spec/calls.js';
import { CKF } from '../../spec/codes.js';
import { resultOf, step } from '../../spec/job.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import type { Group } from '../group/group.js';
import { failureOf } from '../group/job-outcome.js';
import type { Member } from '../group/member.js';
import type { GroupRecord } from '../records/record.js';
import { mechanismsOn } from '../sessions/mechanisms.js';
import { checkStorage } from '../wrapping/storage-check.js';
import { wrapCandidates } from '../wrapping/wrap-probe.js';

/** What a member's token is, and whether a group can be made of it. Nothing is left on it. */
export interface Inspection {
  readonly member: string;
  readonly token: TokenInfo;
  readonly mechanisms: MechanismTable;
  /** Of the mechanisms that keys may travel by, those that it says it wraps and unwraps with. */
  readonly wraps: readonly number[];
  /** Why it cannot keep the group's records; undefined where it can. */
  readonly storageProblem: string | undefined;
  /** The group that its record says it belongs to. */
  readonly group: Pick<GroupRecord, 'id' | 'label' | 'revision' | 'members'> | undefined;
}

/** Looks at a member that serves; undefined where it is lost meanwhile. */
export function* inspectMember(group: Group, member: Member, deadline: number): Task<Inspection | undefined> {
  const { connection } = member;
  if (connection === undefined) return undefined;
  const job = { steps: [step('C_GetTokenInfo', connection.slot)], sessionless: true };
  const outcome = yield* connection.run(job, 'inspection', deadline);
  if (outcome.kind !== 'reply' || failureOf(outcome) !== undefined) return undefined;
  const token = resultOf(outcome.reply, 0, 'C_GetTokenInfo');
  const mechanisms = yield* mechanismsOn(group, member, deadline);
  const both = CKF.wrap | CKF.unwrap;
  let storageProblem: string | undefined;
  try {
    // Without a login there is no private object to try it with.
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
