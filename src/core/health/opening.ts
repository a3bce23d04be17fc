import { CKR } from '../../spec/codes.js';
import { TokenError } from '../base/error.js';
import type { Task } from '../base/task.js';
import { race } from '../base/waiting.js';
import type { Group } from '../group/group.js';

/** Time that `open` waits for further members once one member serves (ms). */
const GRACE = 1000;

/**
 * Waits until the group can be used: until every member serves or has failed, at most GRACE ms after the first one
 * serves. Throws if no member serves by the deadline, and at once if a member refuses the PIN.
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
        'the member refused the PIN; the PIN is not tried again',
        [],
        logins.refusal.member,
      );
    }
    if (serving && !joining) return;
    if (!serving && group.isHopeless) throw failure(group, 'no member can be used');
    // Begin again if the only serving member is lost.
    servesSince = serving ? (servesSince ?? port.now()) : undefined;
    const until = servesSince === undefined ? deadline : Math.min(deadline, servesSince + GRACE);
    if (port.now() >= until) {
      if (serving) return;
      throw failure(group, 'no member came into service before the deadline');
    }
    yield* race([group.changed, logins.changed], until);
  }
}

function failure(group: Group, explanation: string): TokenError {
  const text = `${explanation}: ${group.describeMembers()}`;
  for (const code of [CKR.pinLocked, CKR.pinIncorrect]) {
    const refusing = group.members.find(({ state }) => state.name === 'down' && state.code === code);
    if (refusing !== undefined) return new TokenError(code, 'C_Login', text, [], refusing.name);
  }
  return new TokenError(CKR.deviceRemoved, 'C_Initialize', text);
}
