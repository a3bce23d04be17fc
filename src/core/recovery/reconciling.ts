import type { Task } from '../base/task.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { MemberJob } from '../jobs/member-job.js';
import type { RecordsFound } from '../records/ledger.js';
import type { ChangeRecord } from '../records/record.js';
import type { RecoveryFailure } from './recovery-result.js';
import type { Redo } from './redo.js';

/** Result of a reconciliation. */
export interface ReconciliationResult {
  /** Reason for which the member may not serve; undefined if it may. */
  readonly failure: RecoveryFailure | undefined;
  /** Number of changes that the member has caught up with. */
  readonly done: number;
  /** Serials of the members whose journal entries for this member were read. */
  readonly heard: ReadonlySet<string>;
}

const noSerials: ReadonlySet<string> = new Set();

/** Result of a reconciliation that failed before any other member's entries were read. */
export const notReconciled = (failure: RecoveryFailure): ReconciliationResult => ({
  failure,
  done: 0,
  heard: noSerials,
});

/** Reconciliation of one member as its catch-up sees it; implemented in reconciliation.ts. */
export interface Reconciling {
  readonly group: Group;
  readonly member: Member;
  readonly redo: Redo;
  /** Members that can be worked on: this member, and those that serve or are about to. */
  readonly reached: readonly Member[];
  /** Reads a member's records; returns undefined if that fails. */
  records(each: Member): Task<RecordsFound | undefined>;
  /** Runs a member job; returns true if it was done. */
  run(member: Member, memberJob: MemberJob): Task<boolean>;
  /** Removes a record from a member. */
  remove(member: Member, record: ChangeRecord): Task<void>;
}
