import { CKR } from '../../spec/codes.js';
import { refuse } from '../base/error.js';
import { reasonOf } from '../base/state.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Group } from '../group/group.js';

/**
 * Makes a member that is away try to come back now, also if its token has refused the PIN. Waits until it serves, and
 * throws if it does not.
 */
export function* recoverMember(group: Group, name: string, deadline: number): Task<void> {
  const member = group.members.find((each) => each.name === name);
  if (member === undefined) refuse(CKR.argumentsBad, `the group has no member ${name}`);
  if (group.orderFor(member) !== undefined) refuse(CKR.actionProhibited, `${name}: ${group.orderFor(member)}`);
  if (member.isServing && member.state.name !== 'stale') return;
  if (member.login.refusal !== undefined) {
    member.login.reset();
    member.login.tryAgain();
    if (group.logins.isRefused) group.logins.reset();
  }
  member.recovery.retryNow();
  const before = member.moves;
  member.ordersChanged.fire();
  for (;;) {
    if (member.isServing) return;
    if (member.state.name === 'down' && member.moves > before)
      refuse(CKR.deviceRemoved, `${name} does not come back: ${reasonOf(member.state)}`);
    if (group.port.now() >= deadline) refuse(CKR.deviceRemoved, `${name} is still ${member.state.name}`);
    yield* race([group.changed], deadline);
  }
}
