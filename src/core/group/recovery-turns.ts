import { Mutex } from '../base/mutex.js';
import { Signal } from '../base/task.js';
import type { Member } from './member.js';

/** Turn of a member that is reconciled. */
export interface RecoveryTurn {
  readonly member: Member;
  /** Completes when another member takes the turn away. */
  readonly revoked: Signal;
}

/** Turns of the members that recover in this process: one member at a time is reconciled. */
export class RecoveryTurns {
  readonly mutex: Mutex = new Mutex();
  /** Turn that is running. */
  current: RecoveryTurn | undefined;
  /** Number of turns that were taken away since a member served last. */
  revocations: number = 0;

  /** Begins the turn of a member. */
  begin(member: Member): RecoveryTurn {
    const turn = { member, revoked: new Signal() };
    this.current = turn;
    return turn;
  }

  /** Ends a turn. */
  end(turn: RecoveryTurn): void {
    if (this.current === turn) this.current = undefined;
  }

  /** Takes the turn away from the member that has it. */
  revoke(): void {
    this.revocations += 1;
    this.current?.revoked.complete();
  }

  /** Notes that a member serves. */
  noteService(): void {
    this.revocations = 0;
  }
}
