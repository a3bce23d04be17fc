import { CKR } from '../../spec/codes.js';
import type { SecretRef } from '../../spec/job.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Group } from '../group/group.js';

/**
 * Where the configuration has no PIN, the application's goes to the members: to one of them first, and a refusal there
 * ends it (Rule 6). They come back on fresh hosts that log in.
 */
export function* tryApplicationPin(group: Group, pin: SecretRef, deadline: number): Task<void> {
  const { logins, pins, members } = group;
  logins.reset();
  pins.current = pin;
  restart(group);
  while (!members.some(({ isServing, recovery }) => isServing && !recovery.mustRestartHost)) {
    if (logins.refusal !== undefined)
      throw takeBack(group, logins.refusal.code, 'it was tried once and not again', logins.refusal.member);
    // Those that are told to come back have not tried it yet.
    const isHopeless = group.isHopeless && !members.some(({ recovery }) => recovery.mustRestartHost);
    const refused = members.find(({ login }) => login.refusal !== undefined);
    if (isHopeless && refused?.login.refusal !== undefined)
      throw takeBack(group, refused.login.refusal, 'no member can be logged in to', refused.name);
    if (isHopeless || group.port.now() >= deadline)
      throw takeBack(group, CKR.deviceRemoved, `no member could be logged in to: ${group.describeMembers()}`);
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

/** Nobody is logged in, as before. */
function takeBack(group: Group, code: number, explanation: string, member?: string): TokenError {
  const { pins } = group;
  if (pins.current !== undefined) pins.takenBack.add(pins.current);
  pins.current = undefined;
  group.logins.reset();
  restart(group);
  return new TokenError(code, 'C_Login', explanation, [], member);
}
