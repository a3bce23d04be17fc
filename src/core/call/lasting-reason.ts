import type { Member } from '../group/member.js';
import { verdictOf } from './attempt-end.js';
import { abilityFor, type CallState, candidatesOf } from './call-state.js';

/** Reason for which a member cannot do a call, whatever happens next. */
type LastingReason = 'mechanism' | 'absent' | 'misaligned' | 'object';

/** Returns the reason for which a member cannot do a call; undefined if the member still may. */
export function lastingReason(call: CallState, member: Member): LastingReason | undefined {
  const { objects } = call.operation;
  const verdict = verdictOf(call.failed?.endOn(member));
  if (verdict === 'mechanism') return 'mechanism';
  // A member that is away reported the missing mechanism while it served.
  if (!member.isServing && (member.lacking.get(abilityFor(call)) ?? 0) > call.group.port.now()) return 'mechanism';
  if (!member.isServing || objects.length === 0) return undefined;
  for (const object of objects) {
    const replica = member.connection?.replicas.get(object)?.kind;
    if (replica === 'absent' || replica === 'misaligned') return replica;
  }
  return verdict === 'object' ? 'object' : undefined;
}

/**
 * Returns true if no serving member has the objects of a call under the identities that this process knows. Another
 * process may have renamed the objects; the alias records tell.
 */
export function mayHaveBeenRenamed(call: CallState): boolean {
  const { ledger, port } = call.group;
  if (ledger.record === undefined || port.now() >= call.deadline) return false;
  if (!call.operation.objects.some(({ session, handle }) => session === undefined && handle !== 0)) return false;
  const serving = candidatesOf(call).filter((member) => member.isServing);
  const reasons = serving.map((member) => lastingReason(call, member));
  return reasons.length > 0 && reasons.every((reason) => reason !== undefined && reason !== 'mechanism');
}
