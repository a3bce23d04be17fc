import type { Group } from './group.js';
import type { Member } from './member.js';

/** Returns true if a member has every change of the group, as far as this process and the others of the machine know. */
export function isInStep({ ledger, coordinator }: Group, { serial, state, recovery }: Member): boolean {
  if (ledger.record === undefined || serial === undefined || !['active', 'standby', 'suspect'].includes(state.name))
    return false;
  return !recovery.isNeeded && recovery.failedChanges.size === 0 && coordinator.missedBy(serial).length === 0;
}
