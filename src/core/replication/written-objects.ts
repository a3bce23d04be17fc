import { step } from '../../spec/job.js';
import type { Member } from '../group/member.js';
import type { Login, MemberJob } from '../jobs/member-job.js';

/** Objects that a change wrote on one member, for undoing it. */
export interface WrittenObjects {
  readonly member: Member;
  readonly login: Login;
  readonly handles: readonly Uint8Array[];
}

/** Builds the job that destroys written objects, the last one first. */
export function destroyingHandles({ handles, login }: WrittenObjects): MemberJob {
  const steps = [...handles].reverse().map((handle) => step('C_DestroyObject', handle));
  return { function: 'C_DestroyObject', objects: [], job: () => ({ steps }), login };
}
