import { CKR } from '../../spec/codes.js';
import type { SecretRef } from '../../spec/job.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Group } from '../group/group.js';

/**
 * Logs all members in with the application's PIN, if the configuration has none. The members join on fresh hosts; one
 * member tries the PIN first, and its refusal ends the login (Rule 6). Then no member is logged in, as before.
 */
export function* tryApplicationPin(group: Group, pin: SecretRef, deadline: number): Task<void> {
  const { logins, pins, members } = group;
  logins.reset();
  pins.current = pin;
  restart(group);
  while (!members.some(({ isServing, recovery }) => isServing && !recovery.mustRestartHost)) {
    if (logins.refusal !== undefined)
      throw takeBack(
        group,
        logins.refusal.code,
        'the member refused the PIN; the PIN is not tried again',
        logins.refusal.member,
      );
    // A member that has yet to restart its host has not tried the PIN.
    const isHopeless = group.isHopeless && !members.some(({ recovery }) => recovery.mustRestartHost);
    const refused = members.find(({ login }) => login.refusal !== undefined);
    if (isHopeless && refused?.login.refusal !== undefined)
      throw takeBack(group, refused.login.refusal, 'no member accepts the login', refused.name);
    if (isHopeless || group.port.now() >= deadline)
      throw takeBack(group, CKR.deviceRemoved, `no member accepted the login: ${group.describeMembers()}`);
    yield* race([group.changed, logins.changed], deadline);
  }
}

function restart({ members }: Group): void {
  for (const member of members) {
    member.login.reset();
    member.recovery.restartHost();
    member.ordersChanged.fire();
  }
}

/** Forgets the PIN, restarts all hosts without a login, and returns the error. */
function takeBack(group: Group, code: number, explanation: string, member?: string): TokenError {
  const { pins } = group;
  if (pins.current !== undefined) pins.takenBack.add(pins.current);
  pins.current = undefined;
  group.logins.reset();
  restart(group);
  return new TokenError(code, 'C_Login', explanation, [], member);
}
