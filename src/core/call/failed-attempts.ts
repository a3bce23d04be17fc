import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';
import type { Attempt } from './attempt.js';
import type { AttemptEnd } from './attempt-end.js';

interface FailedAttempt {
  readonly attempt: Attempt;
  /** Count of state changes at the failure; the failure counts until the count goes up. */
  readonly moves: number;
}

/** Failed attempts of a call, the last of each member. Routing leaves such a member out until a state changes. */
export class FailedAttempts {
  private readonly byMember = new Map<Member, FailedAttempt>();

  add(attempt: Attempt): void {
    const { member } = attempt;
    // A deferred attempt depends on another member: a change of any member since the attempt began may have helped.
    const moves = attempt.end?.kind === 'deferred' ? attempt.groupMoves : member.moves;
    this.byMember.set(member, { attempt, moves });
  }

  /** Returns true if the failure on a member still counts. */
  excludes(member: Member, group: Group): boolean {
    const failed = this.byMember.get(member);
    if (failed === undefined || failed.attempt.connection !== member.connection) return false;
    return failed.moves === (failed.attempt.end?.kind === 'deferred' ? group.moves : member.moves);
  }

  attemptOn(member: Member): Attempt | undefined {
    return this.byMember.get(member)?.attempt;
  }

  endOn(member: Member): AttemptEnd | undefined {
    return this.byMember.get(member)?.attempt.end;
  }

  /** True if an attempt failed because a key could not be proven. */
  get hasDeferred(): boolean {
    for (const { attempt } of this.byMember.values()) if (attempt.end?.kind === 'deferred') return true;
    return false;
  }

  delete(member: Member): void {
    this.byMember.delete(member);
  }

  clear(): void {
    this.byMember.clear();
  }
}
