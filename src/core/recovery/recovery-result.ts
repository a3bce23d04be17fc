/** Reason for which a member does not serve yet. */
export type RecoveryFailure =
  /** The member must catch up, on a host that starts after this process has the claim. */
  | { readonly kind: 'needsFreshHost' }
  /** Another process had the claim and has recovered the member; a fresh host sees its work. */
  | { readonly kind: 'recoveredElsewhere' }
  /** The comparison with the other members failed, and is tried again on a fresh host. */
  | { readonly kind: 'notCompared' }
  | { readonly kind: 'failed'; readonly reason: string };

/** Result of a member's recovery. */
export type RecoveryResult = { readonly kind: 'recovered' } | RecoveryFailure;

export function failedBecause(reason: string): RecoveryFailure {
  return { kind: 'failed', reason };
}

/** Returns the text of a failure as the member's state shows it. */
export function reasonOf(failure: RecoveryFailure): string {
  switch (failure.kind) {
    case 'needsFreshHost':
      return 'the member catches up on a fresh host';
    case 'recoveredElsewhere':
      return "another process has let go of the member's recovery";
    case 'notCompared':
      return 'the member could not be compared with the others';
    case 'failed':
      return failure.reason;
  }
}
