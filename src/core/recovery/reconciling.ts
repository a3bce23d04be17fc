import type { Task } from '../base/task.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { MemberJob } from '../jobs/member-job.js';
import type { RecordsFound } from '../records/ledger.js';
import type { ChangeRecord } from '../records/record.js';
import type { Redo } from './redo.js';

/** One step of a settlement takes at most so many times `hangAfter`, besides its write. */
const STEP_MULTIPLE = 5;

/** What settling a member has come to. */
export interface ReconciliationResult {
  /** Why it may not serve. */
  readonly reason: string | undefined;
  /** How many changes it has caught up with. */
  readonly done: number;
  /** The serials of the members that have said what they have in writing for it. */
  readonly heard: ReadonlySet<string>;
}

const NOBODY: ReadonlySet<string> = new Set();

/** Why a member is not settled, with nobody heard. */
export const notReconciled = (reason: string): ReconciliationResult => ({ reason, done: 0, heard: NOBODY });

/** The settlement of one member as its catch-up sees it; settlement.ts implements it. */
export interface Reconciling {
  readonly group: Group;
  readonly member: Member;
  readonly redo: Redo;
  /** Members that can be worked on: this one, and those that serve or are about to. */
  readonly reached: readonly Member[];
  /** Reads a member's records; undefined if that fails. */
  records(each: Member): Task<RecordsFound | undefined>;
  /** Runs an errand; false if it was not done. */
  run(member: Member, memberJob: MemberJob): Task<boolean>;
  /** Removes a record from a member. */
  remove(member: Member, record: ChangeRecord): Task<void>;
}

/** How long a step of a settlement may take (ms). */
export function stepLimit({ policy }: Group): number {
  return policy.hangAfter * STEP_MULTIPLE + policy.writeHangAfter;
}
