import { CKR } from '../../spec/codes.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Group } from '../group/group.js';

/** Once a member is in service, the others are waited for a little longer (ms). */
const GRACE = 1000;

/**
 * Waits until the group can be used: until every member is in service or has failed, but not much longer
 * than the first took. Fails when no member came into service by the deadline, and at once on a wrong PIN.
 */
export function* awaitService(group: Group, deadline: number): Task<void> {
  const { port, logins } = group;
  let servesSince: number | undefined;
  for (;;) {
    const { members } = group;
    const serving = members.some(({ isServing }) => isServing);
    const joining = members.some(({ state }) => state.name === 'joining' || state.name === 'recovering');
    if (!serving && logins.refusal !== undefined) {
      throw new TokenError(
        logins.refusal.code,
        'C_Login',
        'the PIN was tried once and not again',
        [],
        logins.refusal.member,
      );
    }
    if (serving && !joining) return;
    if (!serving && group.isHopeless) throw failure(group, 'no member can be used');
    // One that serves may be lost again at once.
    servesSince = serving ? (servesSince ?? port.now()) : undefined;
    const until = servesSince === undefined ? deadline : Math.min(deadline, servesSince + GRACE);
    if (port.now() >= until) {
      if (serving) return;
      throw failure(group, 'no member came into service in time');
    }
    yield* race([group.changed, logins.changed], until);
  }
}

function failure(group: Group, explanation: string): TokenError {
  const text = `${explanation}: ${group.describeMembers()}`;
  const locked = group.members.find(({ state }) => state.name === 'down' && state.code === CKR.pinLocked);
  return locked === undefined
    ? new TokenError(CKR.deviceRemoved, 'C_Initialize', text)
    : new TokenError(CKR.pinLocked, 'C_Login', text, [], locked.name);
}
