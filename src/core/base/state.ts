/** State of a member, with the data of that state only (Rule 4). `since` is in ms of the port's clock. */
export type MemberState =
  | { readonly name: 'joining'; readonly since: number }
  /** With the reason if the recovery waits for another process. */
  | { readonly name: 'recovering'; readonly since: number; readonly reason: string }
  | { readonly name: 'active'; readonly since: number }
  | { readonly name: 'standby'; readonly since: number }
  | { readonly name: 'stale'; readonly since: number; readonly reason: string }
  | { readonly name: 'suspect'; readonly since: number; readonly reason: string }
  | { readonly name: 'drained'; readonly since: number; readonly reason: string }
  | {
      readonly name: 'down';
      readonly since: number;
      readonly reason: string;
      /** CKR code behind the reason, if there was one. */
      readonly code: number | undefined;
      /** Time of the next try to join (ms of the port's clock); Infinity if only an operator can help. */
      readonly retryAt: number;
    };

/** Name of a member's state. */
export type StateName = MemberState['name'];

/** Legal moves, by the state before. */
const moves: Readonly<Record<StateName, readonly StateName[]>> = {
  joining: ['recovering', 'active', 'standby', 'stale', 'down', 'drained'],
  recovering: ['active', 'standby', 'stale', 'down', 'drained'],
  active: ['standby', 'suspect', 'down', 'drained'],
  standby: ['active', 'suspect', 'down', 'drained'],
  stale: ['recovering', 'suspect', 'down', 'drained'],
  suspect: ['active', 'standby', 'stale', 'down', 'drained'],
  drained: ['joining', 'down'],
  down: ['joining', 'drained'],
};

/** Returns the state after a legal move. Throws for an illegal move, which is a bug (Rule 4). */
export function moved(from: MemberState, to: MemberState): MemberState {
  if (!moves[from.name].includes(to.name)) throw new Error(`a member cannot go from ${from.name} to ${to.name}`);
  return to;
}

/** Returns the reason for a state; empty for a state that needs none. */
export function reasonOf(state: MemberState): string {
  return 'reason' in state ? state.reason : '';
}
