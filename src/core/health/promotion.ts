import { isComing } from '../group/coming.js';
import type { Group } from '../group/group.js';
import type { Member } from '../group/member.js';

/**
 * Moves a serving member to the state that its role asks for. A standby member without an explicit role becomes active
 * if no other member with an active role serves or is on its way to serve.
 */
export function assumeRole(group: Group, member: Member): void {
  const { name } = member.state;
  const isNeeded = (): boolean =>
    !group.members.some(
      (other) => other !== member && other.assignedState === 'active' && (other.isActive || isComing(other)),
    );
  if (name === 'standby' && member.role.assigned === undefined && isNeeded()) member.role.assign('active');
  if ((name === 'standby' || name === 'active') && name !== member.assignedState) member.serve();
}
