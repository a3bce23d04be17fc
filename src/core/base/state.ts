/** A member's state; each carries only what belongs to it. `since` is ms of the port's clock. */
export type MemberState =
  | { readonly name: 'joining'; readonly since: number }
  | { readonly name: 'recovering'; readonly since: number }
  | { readonly name: 'active'; readonly since: number }
  | { readonly name: 'standby'; readonly since: number }
  | { readonly name: 'stale'; readonly since: number; readonly reason: string }
  | { readonly name: 'suspect'; readonly since: number; readonly reason: string }
  | { readonly name: 'drained'; readonly since: number; readonly reason: string }
  | {
      readonly name: 'down';
      readonly since: number;
      readonly reason: string;
      /** The CKR code behind the reason, where there is one. */
      readonly code: number | undefined;
      /** When the next try to join begins; Infinity when only an operator can help. */
      readonly retryAt: number;
    };

export type StateName = MemberState['name'];

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

/** The state after a legal move; an illegal one is an error of ours and throws. */
export function moved(from: MemberState, to: MemberState): MemberState {
  if (!moves[from.name].includes(to.name)) throw new Error(`a member cannot go from ${from.name} to ${to.name}`);
  return to;
}

/** Why a member is where it is; empty for states that need no reason. */
export function reasonOf(state: MemberState): string {
  return 'reason' in state ? state.reason : '';
}
