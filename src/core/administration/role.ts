import { CKR } from '../../spec/codes.js';
import { refuse } from '../base/error.js';
import type { Group } from '../group/group.js';
import { checkNotLastActive } from './membership.js';

/** Promotes a member to active, or demotes it to standby, in this process. Throws for the last active member. */
export function assignRole(group: Group, name: string, role: 'active' | 'standby'): void {
  const member = group.members.find((each) => each.name === name);
  if (member === undefined) refuse(CKR.argumentsBad, `the group has no member ${name}`);
  if (role === 'standby') checkNotLastActive(group, member, name);
  member.role.assign(role);
  member.ordersChanged.fire();
  member.suspicion.fire();
}
